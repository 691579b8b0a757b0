# SPDX-License-Identifier: Apache-2.0
"""What interfaces shall run, written down: frozen values <-> TOML, what runs -> spec, and spec + what runs ->
candidate. The format is described in docs/spec.md.
"""
