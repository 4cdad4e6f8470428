//! Who somebody is and what they may do: the cluster's certificate authority, service
//! account tokens, authentication, RBAC and the node authorizer, kubeconfig files.
//!
//! Not for: admission (what an allowed request may contain) and reading objects; it is
//! fed changes and asked questions, and answers from memory.
//!
//! Start at [`Authenticator`] (request → [`UserInfo`]) and [`Authorizer`] ([`Attributes`]
//! → [`Decision`]), of which [`Rbac`] and [`NodeAuthorizer`] are the interesting ones.

mod authenticate;
mod authorize;
mod bootstrap;
mod ca;
mod error;
mod files;
mod join;
mod key_pair;
mod kubeconfig;
mod node;
mod notes;
mod rbac;
mod renew;
mod request;
mod request_header;
mod token;
mod user;

pub use authenticate::{Authenticator, BoundKind, BoundState, TokenLookup, Unauthenticated, certificate_lifetime};
pub use authorize::{Attributes, Authorizer, AuthorizerChain, Decision, Superuser};
pub use bootstrap::bootstrap_policy;
pub use ca::{ClusterCa, FRONT_PROXY_CA, FRONT_PROXY_CLIENT, Leaf};
pub use error::{Error, TokenError};
pub use files::write_private;
pub use join::{
    BOOTSTRAP_SECRET_PREFIX, BOOTSTRAP_SECRET_TYPE, BootstrapToken, GROUP_BOOTSTRAPPERS, certificate_pin,
    constant_time_eq,
};
pub use key_pair::key_pair_problem;
pub use kubeconfig::{kubeconfig, merge_kubeconfig, remove_from_kubeconfig};
pub use node::NodeAuthorizer;
pub use notes::{KeptToken, Notes, UsedSecret};
pub use rbac::{PolicyRule, Rbac, aggregate, compact, uncovered};
pub use renew::keep_renewed;
pub use request::{RequestedNames, certificate_request};
pub use request_header::RequestHeaders;
pub use token::{BoundRef, Claims, IssuedToken, KubernetesClaims, ServiceAccountClaims, TokenIssuer};
pub use user::{
    GROUP_AUTHENTICATED, GROUP_MASTERS, GROUP_NODES, GROUP_SERVICE_ACCOUNTS, GROUP_UNAUTHENTICATED, NODE_USER_PREFIX,
    SERVICE_ACCOUNT_USER_PREFIX, USER_ANONYMOUS, UserInfo,
};
