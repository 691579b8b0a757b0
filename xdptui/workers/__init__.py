# SPDX-License-Identifier: Apache-2.0
"""What polls and listens on behalf of a viewer: each worker owns its source, and reports what it saw.

Workers know no screens: they pass messages and readings to whatever started them.
"""
