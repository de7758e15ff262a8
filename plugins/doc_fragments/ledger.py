# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every plugin says about the ledger's options."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  ledger:
    description:
      - Where the ledger is, the durable record of leases, rollouts, commands, and what was decided and done.
      - Everything that acts on a service must name the same one.
      - What is not set here is taken from the environment variable E(SELFHEAL_LEDGER) of the controller, which is a
        path, C(postgresql://user@host/database), or C(kubernetes://namespace/name).
      - An option that belongs to another store than the one that is used is an error.
    type: dict
    default: {}
    suboptions:
      store:
        description:
          - The kind of store. V(sqlite) is one file on the controller, for one controller. V(postgresql) is a schema of
            a database, and V(kubernetes) a few ConfigMaps, for any number of controllers.
          - By default the one that E(SELFHEAL_LEDGER) names, else V(sqlite).
        type: str
        choices: [sqlite, postgresql, kubernetes]
      path:
        description:
          - The file of the V(sqlite) store. It is created with its folder, for its owner alone.
          - By default it is what E(SELFHEAL_LEDGER) names, else C(selfheal/ledger.sqlite) in the folder that
            E(XDG_STATE_HOME) names, else C(~/.local/state/selfheal/ledger.sqlite).
          - In an execution environment that is thrown away after each job, give it a path that outlives the job.
        type: path
      allow_network:
        description:
          - Allow a file of the V(sqlite) store on a file system that machines can share, such as NFS.
          - SQLite's locks do not hold between machines, so two controllers could act at once. Set it only when no other
            machine ever uses the file.
        type: bool
        default: false
      dsn:
        description:
          - The database of the V(postgresql) store, as libpq takes it,
            C(host=db.example.org dbname=delivery user=selfheal) or C(postgresql://selfheal@db.example.org/delivery).
          - What it leaves open is taken from E(PGHOST), E(PGPORT), E(PGDATABASE), E(PGUSER) and what else libpq reads.
          - Needs psycopg 3.1 or newer on the controller, and PostgreSQL 13 or newer.
        type: str
      password:
        description:
          - The password for the V(postgresql) store. By default that of O(ledger.dsn), else E(PGPASSWORD), else the one
            in C(~/.pgpass).
        type: str
      schema:
        description:
          - The schema of the V(postgresql) store, V(selfheal) by default. It is created with its tables.
        type: str
      namespace:
        description:
          - The namespace of the V(kubernetes) store, best one that is only for it. Whoever may change ConfigMaps there
            may change the ledger.
          - By default, in a pod, that of its service account.
        type: str
      name:
        description:
          - The name of the V(kubernetes) store's first ConfigMap, with which the names of all others begin.
            V(selfheal-ledger) by default.
        type: str
      kubeconfig:
        description:
          - The kubeconfig for the V(kubernetes) store. This and everything else about the connection is by default
            taken from the environment variables C(K8S_AUTH_*) of kubernetes.core, else from the usual kubeconfig, else
            from the service account of the pod.
          - Needs the kubernetes library on the controller.
        type: path
      context:
        description:
          - The context of the kubeconfig for the V(kubernetes) store.
        type: str
"""
