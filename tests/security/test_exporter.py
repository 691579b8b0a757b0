# SPDX-License-Identifier: Apache-2.0
"""`xdptui export` with connections that request nothing or too much, or read no answer."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import pytest

from xdptui.export import server

SCRAPE = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(params=[1024, 48], ids=["many descriptors", "few descriptors"])
def exporter(root: None, request: pytest.FixtureRequest) -> Iterator[tuple[str, int, int]]:
    """Host, port and pid of a running exporter."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (request.param, request.param))

    command = [sys.executable, "-m", "xdptui", "export", "--listen", "127.0.0.1:0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=limit)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split()[0]
        yield "127.0.0.1", int(url.split(":")[2].split("/")[0]), process.pid
    finally:
        process.terminate()
        assert process.wait(10) in (0, 143)
        assert process.stdout is not None
        process.stdout.close()


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
        text: str = answer.read().decode()
    assert "xdptui_up 1.0" in text
    return text


def processor_seconds(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_half_open_connections_keep_nobody_out(exporter: tuple[str, int, int]) -> None:
    host, port, pid = exporter
    scrape(port)
    with contextlib.ExitStack() as held:
        for beginning in (b"", b"GET /metr", b"GET /metrics HTTP/1.1\r\nA: "):
            for _ in range(65):
                connection = held.enter_context(socket.create_connection((host, port), timeout=10))
                with contextlib.suppress(OSError):
                    connection.sendall(beginning)
        begun = time.monotonic()
        scrape(port)
        assert time.monotonic() - begun < 5
        before = processor_seconds(pid)
        time.sleep(2)
        assert processor_seconds(pid) - before < 0.5  # it does not spin
        assert len(os.listdir(f"/proc/{pid}/fd")) < 48
        scrape(port)


def test_who_does_not_read_is_left_and_harms_nobody(exporter: tuple[str, int, int]) -> None:
    host, port, _ = exporter
    with contextlib.ExitStack() as held:
        for _ in range(server.CONNECTIONS - 2):
            slow = held.enter_context(socket.socket())
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            slow.connect((host, port))
            slow.sendall(SCRAPE)
        for _ in range(3):
            scrape(port)


def test_a_byte_now_and_then_does_not_keep_a_connection(exporter: tuple[str, int, int]) -> None:
    host, port, _ = exporter
    with socket.create_connection((host, port), timeout=20) as connection:
        begun = time.monotonic()
        try:
            while time.monotonic() - begun < 4 * server.REQUEST_S:
                connection.sendall(b"A")
                time.sleep(0.5)
        except OSError:
            pass
        assert time.monotonic() - begun < 2 * server.REQUEST_S


@pytest.mark.parametrize(
    "request_",
    [b"GET /" + b"a" * 1_000_000, b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200_000],
    ids=["line", "headers"],
)
def test_large_requests_are_refused(exporter: tuple[str, int, int], request_: bytes) -> None:
    host, port, _ = exporter
    with socket.create_connection((host, port), timeout=20) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(request_)
        answer = b""
        with contextlib.suppress(OSError):
            while chunk := connection.recv(65536):
                answer += chunk
        assert b"xdptui_up" not in answer
    scrape(port)
