# SPDX-License-Identifier: Apache-2.0
"""Words and figures that the screen and the command line share: each sentence stands here once."""
