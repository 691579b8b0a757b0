# SPDX-License-Identifier: Apache-2.0
"""What interfaces should run, as a file: frozen values <-> TOML, what runs -> spec, and spec + what runs ->
candidate. docs/spec.md describes the format.
"""
