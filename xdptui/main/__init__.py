# SPDX-License-Identifier: Apache-2.0
"""The main screen and its controllers: what each key does, from the first question to the result."""
