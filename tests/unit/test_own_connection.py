# SPDX-License-Identifier: Apache-2.0
"""SSH_CONNECTION as sshd writes it, and as nobody should."""

from __future__ import annotations

import pytest

from xdpchain.trial.packets.own_connection import SshConnection

GOOD = {
    "192.0.2.9 50022 192.0.2.2 22": ("192.0.2.9", "192.0.2.2"),
    "2001:DB8::9 50022 2001:db8:0::2 22": ("2001:db8::9", "2001:db8::2"),
    "fe80::9%eth0 50022 fe80::2%eth0 22": ("fe80::9", "fe80::2"),
    "::ffff:192.0.2.9 50022 ::ffff:192.0.2.2 22": ("192.0.2.9", "192.0.2.2"),
}


@pytest.mark.parametrize(("text", "ends"), GOOD.items())
def test_a_connection(text: str, ends: tuple[str, str]) -> None:
    found = SshConnection.parse(text)
    assert found is not None
    assert (found.client, found.server) == ends
    assert (found.client_port, found.server_port) == (50022, 22)
    assert found.zone == ("eth0" if "%" in text else None)


@pytest.mark.parametrize(
    "text", ["", "UNKNOWN", "1 2 3 4 5", "host 1 192.0.2.2 22", "192.0.2.9 x 192.0.2.2 22"]
)
def test_no_connection(text: str) -> None:
    assert SshConnection.parse(text) is None
