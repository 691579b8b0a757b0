# SPDX-License-Identifier: Apache-2.0
"""Engine values as plain text and as JSON documents. Pure."""
