# SPDX-License-Identifier: Apache-2.0
"""What polls and listens while somebody looks: each holds what it reads from, and says what it saw.

No worker knows a screen: it hands messages and readings to whoever asked for them.
"""
