// SPDX-FileCopyrightText: selfheal.delivery contributors
// SPDX-License-Identifier: GPL-3.0-or-later

module selfheal.delivery/testbed/gateway-api

go 1.26.0

require sigs.k8s.io/gateway-api v1.4.1
