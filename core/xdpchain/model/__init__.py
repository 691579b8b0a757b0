# SPDX-License-Identifier: Apache-2.0
"""What a chain is, and what its parts are: pure, frozen values."""
