# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How every module reaches a cluster: the names are those of kubernetes.core, so that module_defaults carry over."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  kubeconfig:
    description:
      - The path of a kubeconfig, or its content as a mapping. Also from the environment variable
        E(K8S_AUTH_KUBECONFIG).
      - Without it E(KUBECONFIG), then C(~/.kube/config), then the service account of the pod that this runs in.
    type: raw
  context:
    description: The context to use from the kubeconfig. Also from E(K8S_AUTH_CONTEXT).
    type: str
  host:
    description: The URL of the API server. Also from E(K8S_AUTH_HOST).
    type: str
  api_key:
    description: The token to authenticate with. Also from E(K8S_AUTH_API_KEY).
    type: str
  username:
    description: The user of basic authentication. Also from E(K8S_AUTH_USERNAME).
    type: str
  password:
    description: The password of basic authentication. Also from E(K8S_AUTH_PASSWORD).
    type: str
  validate_certs:
    description: Whether the API server's certificate is checked. Also from E(K8S_AUTH_VERIFY_SSL).
    type: bool
    aliases: [verify_ssl]
  ca_cert:
    description: The file of the authority that vouches for the API server. Also from E(K8S_AUTH_SSL_CA_CERT).
    type: path
    aliases: [ssl_ca_cert]
  client_cert:
    description: The file of a client certificate. Also from E(K8S_AUTH_CERT_FILE).
    type: path
    aliases: [cert_file]
  client_key:
    description: The file of the client certificate's key. Also from E(K8S_AUTH_KEY_FILE).
    type: path
    aliases: [key_file]
  proxy:
    description: The URL of a proxy to the API server. Also from E(K8S_AUTH_PROXY).
    type: str
  no_proxy:
    description: Hosts, comma-separated, that are reached without the proxy. Also from E(K8S_AUTH_NO_PROXY).
    type: str
  persist_config:
    description: Whether tokens that the library renews are written back to the kubeconfig. Also from
      E(K8S_AUTH_PERSIST_CONFIG).
    type: bool
  impersonate_user:
    description: The user to act as. Also from E(K8S_AUTH_IMPERSONATE_USER).
    type: str
  impersonate_groups:
    description: The groups to act as, with O(impersonate_user). Also from E(K8S_AUTH_IMPERSONATE_GROUPS).
    type: list
    elements: str
  request_timeout:
    description: Seconds after which one request to the API server, with all its tries, has failed.
    type: float
    default: 30.0
requirements:
  - kubernetes >= 28.1.0, on the controller by default; for a kubeconfig with a token, or with the files of a client
    certificate, urllib3 is enough
"""
