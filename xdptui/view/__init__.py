# SPDX-License-Identifier: Apache-2.0
"""The terminal's view model: pure values and arithmetic, without terminal or kernel."""
