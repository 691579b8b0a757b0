# SPDX-License-Identifier: Apache-2.0
"""Values of the engine as plain text and as JSON documents. Pure."""
