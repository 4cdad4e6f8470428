//! Default roles within namespaces, and who has which role. Facts from Kubernetes v1.36; a test compares them with upstream's own list.
//!
//! A rule reads `verbs : groups : resources [: names]`, with `core` for the group without a name, or `verbs @ paths`.

use super::{Binding, Role, binding, role};

/// Roles within a namespace.
pub(super) const ROLES: &[Role] = &[
    role(
        "system:controller:bootstrap-signer",
        &[
            "get list watch : core : configmaps",
            "update : core : configmaps : cluster-info",
            "create patch update : core events.k8s.io : events",
        ],
    )
    .within("kube-public"),
    role(
        "extension-apiserver-authentication-reader",
        &["get list watch : core : configmaps : extension-apiserver-authentication"],
    )
    .within("kube-system"),
    role(
        "system::leader-locking-kube-controller-manager",
        &[
            "create get list update watch : coordination.k8s.io : leases",
            "create get list update watch : coordination.k8s.io : leasecandidates",
        ],
    )
    .within("kube-system"),
    role(
        "system::leader-locking-kube-scheduler",
        &[
            "create get list update watch : coordination.k8s.io : leases",
            "create get list update watch : coordination.k8s.io : leasecandidates",
        ],
    )
    .within("kube-system"),
    role(
        "system:controller:bootstrap-signer",
        &["get list watch : core : secrets"],
    )
    .within("kube-system"),
    role(
        "system:controller:cloud-provider",
        &["create get list watch : core : configmaps"],
    )
    .within("kube-system"),
    role(
        "system:controller:token-cleaner",
        &[
            "delete get list watch : core : secrets",
            "create patch update : core events.k8s.io : events",
        ],
    )
    .within("kube-system"),
];

/// Who has which role of the whole cluster.
pub(super) const CLUSTER_ROLE_BINDINGS: &[Binding] = &[
    binding("", "cluster-admin", "cluster-admin", &["Group system:masters"]),
    binding(
        "",
        "system:basic-user",
        "system:basic-user",
        &["Group system:authenticated"],
    ),
    binding(
        "",
        "system:discovery",
        "system:discovery",
        &["Group system:authenticated"],
    ),
    binding(
        "",
        "system:kube-controller-manager",
        "system:kube-controller-manager",
        &["User system:kube-controller-manager"],
    ),
    binding(
        "",
        "system:kube-dns",
        "system:kube-dns",
        &["ServiceAccount kube-system/kube-dns"],
    ),
    binding(
        "",
        "system:kube-scheduler",
        "system:kube-scheduler",
        &["User system:kube-scheduler"],
    ),
    binding(
        "",
        "system:monitoring",
        "system:monitoring",
        &["Group system:monitoring"],
    ),
    binding("", "system:node", "system:node", &[]),
    binding(
        "",
        "system:node-proxier",
        "system:node-proxier",
        &["User system:kube-proxy"],
    ),
    binding(
        "",
        "system:public-info-viewer",
        "system:public-info-viewer",
        &["Group system:authenticated", "Group system:unauthenticated"],
    ),
    binding(
        "",
        "system:service-account-issuer-discovery",
        "system:service-account-issuer-discovery",
        &["Group system:serviceaccounts"],
    ),
    binding(
        "",
        "system:volume-scheduler",
        "system:volume-scheduler",
        &["User system:kube-scheduler"],
    ),
];

/// Who has which role within a namespace.
pub(super) const ROLE_BINDINGS: &[Binding] = &[
    binding(
        "kube-public",
        "system:controller:bootstrap-signer",
        "system:controller:bootstrap-signer",
        &["ServiceAccount kube-system/bootstrap-signer"],
    ),
    binding(
        "kube-system",
        "system::extension-apiserver-authentication-reader",
        "extension-apiserver-authentication-reader",
        &["User system:kube-controller-manager", "User system:kube-scheduler"],
    ),
    binding(
        "kube-system",
        "system::leader-locking-kube-controller-manager",
        "system::leader-locking-kube-controller-manager",
        &[
            "User system:kube-controller-manager",
            "ServiceAccount kube-system/kube-controller-manager",
            "ServiceAccount kube-system/leader-election-controller",
        ],
    ),
    binding(
        "kube-system",
        "system::leader-locking-kube-scheduler",
        "system::leader-locking-kube-scheduler",
        &[
            "User system:kube-scheduler",
            "ServiceAccount kube-system/kube-scheduler",
        ],
    ),
    binding(
        "kube-system",
        "system:controller:bootstrap-signer",
        "system:controller:bootstrap-signer",
        &["ServiceAccount kube-system/bootstrap-signer"],
    ),
    binding(
        "kube-system",
        "system:controller:cloud-provider",
        "system:controller:cloud-provider",
        &["ServiceAccount kube-system/cloud-provider"],
    ),
    binding(
        "kube-system",
        "system:controller:token-cleaner",
        "system:controller:token-cleaner",
        &["ServiceAccount kube-system/token-cleaner"],
    ),
];
