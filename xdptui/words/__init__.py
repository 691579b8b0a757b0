# SPDX-License-Identifier: Apache-2.0
"""Text and figures shared by the screen and the command line: each sentence is here once."""
