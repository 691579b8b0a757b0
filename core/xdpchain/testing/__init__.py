# SPDX-License-Identifier: Apache-2.0
"""A playground to test XDP programs in: network namespaces, links, and real packets."""
