# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which flag, and how its provider is reached, in the same words everywhere."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
requirements:
  - requests, for providers with an HTTP API
  - kubernetes >= 28.1.0, or urllib3, for flags in a cluster
notes:
  - A provider's API and a cluster are asked from the controller, whatever host the play is on, unless the task is
    delegated to a host that is not local. A file of flags, O(provider.path), is one of the host of the task.
options:
  flag:
    description: The flag's name, or key, at its provider.
    type: str
    required: true
  environment:
    description: The environment whose clients it is about, where the provider has several.
    type: str
    default: ""
  project:
    description: The project, or namespace, that the flag is in, where the provider has several.
    type: str
    default: ""
  context:
    description:
      - Whom an evaluation is asked for, such as a C(targetingKey) or a C(userId). Empty stands for anybody.
    type: dict
    default: {}
  deadline:
    description: Seconds for all calls together, and for the change to become effective.
    type: float
    default: 30.0
  provider:
    description:
      - Where the flag is. Which of the options a provider needs, and what off means there, is told in
        L(the table of providers, https://github.com/selfheal-delivery/selfheal.delivery/blob/main/docs/flags.md).
    type: dict
    required: true
    suboptions:
      type:
        description: The provider.
        type: str
        required: true
        choices:
          - unleash
          - flagd
          - launchdarkly
          - flagsmith
          - flipt
          - flipt_v2
          - growthbook
          - go_feature_flag
          - gitlab
          - posthog
          - configcat
          - json
      url:
        description:
          - The address of the provider's management API. Also from the environment variable E(SELFHEAL_FLAGS_URL).
          - A provider that is a service has its public address as the default.
        type: str
      token:
        description:
          - The token for the management API. Also from the environment variable E(SELFHEAL_FLAGS_TOKEN), unless
            O(provider.token_file) is set.
        type: str
      token_file:
        description:
          - A file with such a token, read for each task. Also from E(SELFHEAL_FLAGS_TOKEN_FILE).
        type: path
      username:
        description: A name for basic authentication, where the provider has that.
        type: str
      password:
        description: The password that goes with O(provider.username).
        type: str
      client_url:
        description: The address that clients ask, where it is not O(provider.url).
        type: str
      client_token:
        description:
          - The token, or key, of clients in this environment, by which is read what they are served. Also from
            E(SELFHEAL_FLAGS_CLIENT_TOKEN), unless O(provider.client_token_file) is set.
        type: str
      client_token_file:
        description: A file with such a token. Also from E(SELFHEAL_FLAGS_CLIENT_TOKEN_FILE).
        type: path
      ca_path:
        description: A PEM file, or a folder, with the certificates of the authorities to trust.
        type: path
      validate_certs:
        description: Whether the server's certificate is checked.
        type: bool
        default: true
      timeout:
        description: Seconds after which one request has failed.
        type: float
        default: 5.0
      path:
        description: A file of flags.
        type: path
      kind:
        description:
          - What holds the flags, where a provider knows several things. V(ConfigMap) and V(FeatureFlag) are in a
            cluster.
        type: str
      namespace:
        description: The namespace of the object in the cluster.
        type: str
      name:
        description: The name of the object in the cluster.
        type: str
      key:
        description: The key of the ConfigMap that holds the flags.
        type: str
      cluster:
        description:
          - How the cluster is reached. What is not set is taken from the environment variables C(K8S_AUTH_*) of
            kubernetes.core, then from the kubeconfig, then from the service account of the pod that this runs in.
        type: dict
        suboptions:
          kubeconfig:
            description: The path of a kubeconfig, or its content as a mapping.
            type: raw
          context:
            description: The context to use from the kubeconfig.
            type: str
          host:
            description: The URL of the API server.
            type: str
          api_key:
            description: The token to authenticate with.
            type: str
          ca_cert:
            description: The file of the authority that vouches for the API server.
            type: path
          client_cert:
            description: The file of a client certificate.
            type: path
          client_key:
            description: The file of the client certificate's key.
            type: path
          validate_certs:
            description: Whether the API server's certificate is checked.
            type: bool
"""
