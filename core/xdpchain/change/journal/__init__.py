# SPDX-License-Identifier: Apache-2.0
"""The on-disk history of who changed what and when. The running state is always read from the kernel: the
journal is not needed to run, read or edit a chain, and may be deleted at any time.
"""
