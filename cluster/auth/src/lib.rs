//! Who may do what: the cluster's certificate authority, authenticators, RBAC and token signing.
