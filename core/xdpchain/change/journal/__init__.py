# SPDX-License-Identifier: Apache-2.0
"""Who changed what and when, on disk: history, never the truth. What runs is always read from the kernel;
nothing here is needed to run, read or edit a chain, and all of it may be deleted at any time.
"""
