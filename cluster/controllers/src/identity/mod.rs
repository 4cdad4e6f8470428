//! What gives people and programs their identity and rights, and takes it away again: aggregated cluster roles,
//! tokens of service accounts in secrets, tokens with which machines join, and old certificate requests.

mod account_tokens;
mod bootstrap_tokens;
mod request_cleaner;
mod role_aggregation;
mod token_cleaner;

use crate::context::Context;
use std::sync::Arc;

pub(crate) fn start(context: &Arc<Context>) {
    role_aggregation::start(context);
    account_tokens::start(context);
    bootstrap_tokens::start(context);
    request_cleaner::start(context);
    token_cleaner::start(context);
}
