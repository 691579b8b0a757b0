# SPDX-License-Identifier: Apache-2.0
"""What runs on an interface, and what it does."""
