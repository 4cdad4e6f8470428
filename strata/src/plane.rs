//! The control plane: store, API, controllers, scheduler.

use crate::{
    cli::ServerArgs,
    failure::{During, Failure, Outcome},
    guard,
    instance::Instance,
};
use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
};
use strata_api::{ApiOptions, ApiServer, FrontProxy, LogFilter};
use strata_auth::{ClusterCa, FRONT_PROXY_CLIENT, GROUP_MASTERS, Leaf, TokenIssuer, UserInfo, keep_renewed};
use strata_client::Client;
use strata_controllers::{CertificateSigner, Controllers, ControllersOptions};
use strata_http::{Limits, ServerTls};
use strata_scheduler::{Configuration, Scheduler, SchedulerOptions};
use strata_store::{LogOptions, LogStore};
use strata_task::{CancellationToken, TaskTracker};
use tokio::net::TcpListener;

/// Issuer of service account tokens, as upstream's default.
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// Descriptors that are not connections of clients: shims, watched files, connections to agents.
const OTHER_FILES: usize = 2048;
/// The administrator's context in kubeconfigs the server writes.
const CONTEXT: &str = "strata";

/// A running control plane.
pub struct Plane {
    /// The API, in-process.
    pub api: Arc<ApiServer>,
    /// The cluster's certificate authority.
    pub ca: Arc<ClusterCa>,
    /// Where clients reach the API.
    pub address: SocketAddr,
    tasks: TaskTracker,
    reconcilers: Option<Reconcilers>,
}

/// What acts on objects by itself.
struct Reconcilers {
    controllers: Controllers,
    scheduler: Scheduler,
    signer: CertificateSigner,
}

/// Opens the data directory and starts everything in it.
pub async fn start(
    args: &ServerArgs,
    node_ip: IpAddr,
    instance: &Instance,
    log_filter: LogFilter,
    cancel: &CancellationToken,
) -> Outcome<Plane> {
    let listener = listen(args).await?;
    let pki = args.data_dir.join("pki");
    let ca = Arc::new(ClusterCa::open_or_create(&pki).during("opening the certificate authority")?);
    let issuer = TokenIssuer::open_or_create(&pki, ISSUER).during("opening the token key")?;
    let issuer = Arc::new(issuer.extending(args.api.service_account_extend_token_expiration));
    let db = args.data_dir.join("db");
    let store = tokio::task::spawn_blocking(move || LogStore::open(&db, LogOptions::default()));
    let store = store.await.during("opening the store")?.during("opening the store")?;
    let address = SocketAddr::new(node_ip, args.port);
    let agent_identity = ca
        .issue_client("kube-apiserver-kubelet-client", &[GROUP_MASTERS])
        .during("issuing a certificate")?;
    let front = ClusterCa::open_or_create_front_proxy(&pki).during("opening the front proxy's authority")?;
    let front_proxy = FrontProxy {
        ca_pem: guard::front_proxies(&args.api, front.ca_pem())?,
        believed: guard::request_headers(&args.api),
        identity: front
            .issue_client(FRONT_PROXY_CLIENT, &[])
            .during("issuing a certificate")?,
    };
    let proxy_ca = front_proxy.ca_pem.clone();
    let options = ApiOptions {
        agent_identity: Some(agent_identity),
        front_proxy: Some(front_proxy),
        audit: args.audit.options()?,
        usage: !args.no_controllers,
        flags: args.flags.clone(),
        log_filter: Some(log_filter),
        outside: guard::outside(&args.api)?,
        longest_token: guard::longest_token(&args.api)?,
        encryption: guard::encryption(&args.api),
        service_cidr: instance.service_cidr.clone(),
        ..ApiOptions::new(Arc::new(store), issuer.clone(), ca.ca_pem().to_owned(), address)
    };
    let api = Arc::new(ApiServer::start(options).await.during("starting the API server")?);
    let tasks = TaskTracker::new();
    serve(
        &api,
        (&ca, &proxy_ca),
        listener,
        args,
        node_ip,
        instance,
        &tasks,
        cancel,
    )?;
    write_kubeconfigs(args, &ca)?;
    let reconcilers = match args.no_controllers {
        true => None,
        false => Some(reconcilers(&api, &ca, issuer, (instance, args), cancel)?),
    };
    Ok(Plane {
        api,
        ca,
        address,
        tasks,
        reconcilers,
    })
}

async fn listen(args: &ServerArgs) -> Outcome<TcpListener> {
    let address = SocketAddr::new(args.bind, args.port);
    TcpListener::bind(address).await.map_err(|e| match e.kind() {
        std::io::ErrorKind::AddrInUse => Failure(format!(
            "port {} is in use by another program; stop it or choose another with --port",
            args.port
        )),
        _ => Failure(format!("listening on {address}: {e}")),
    })
}

#[allow(clippy::too_many_arguments)]
fn serve(
    api: &ApiServer,
    (ca, proxy_ca): (&Arc<ClusterCa>, &str),
    listener: TcpListener,
    args: &ServerArgs,
    node_ip: IpAddr,
    instance: &Instance,
    tasks: &TaskTracker,
    cancel: &CancellationToken,
) -> Outcome {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let names: Vec<String> = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
        &host,
    ]
    .map(str::to_owned)
    .into();
    let mut addresses = vec![
        IpAddr::from([127, 0, 0, 1]),
        std::net::Ipv6Addr::LOCALHOST.into(),
        instance.api,
        node_ip,
    ];
    if !args.bind.is_unspecified() {
        addresses.push(args.bind);
    }
    let leaf = ca
        .issue_server(&names, &addresses)
        .during("issuing the server's certificate")?;
    let tls = ServerTls::new(
        leaf.cert_pem.as_bytes(),
        leaf.key_pem.as_bytes(),
        Some(ca.ca_pem().as_bytes()),
    );
    let tls = tls.and_then(|tls| tls.trusting_proxies(proxy_ca.as_bytes()));
    let tls = Arc::new(tls.during("making the server's TLS configuration")?);
    let issuer = ca.clone();
    let renew = move || issuer.issue_server(&names, &addresses);
    tasks.spawn(crate::memory::give_back(cancel.clone()));
    tasks.spawn(keep_renewed(tls.clone(), leaf, renew, cancel.clone()));
    let limits = Limits {
        goaway_chance: args.api.goaway_chance,
        connections: connections(),
        ..Limits::default()
    };
    let serving = strata_http::serve(listener, tls, limits, cancel.clone(), api.handler());
    tasks.spawn(async move {
        if let Err(error) = serving.await {
            tracing::error!(%error, "the API is no longer served");
        }
    });
    Ok(())
}

/// As many connections as the process may have descriptors for, with some left for what else it does.
fn connections() -> usize {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the number of open files cannot be raised");
    }
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let most = Limits::default().connections;
    usize::try_from(files).map_or(most, |files| files.saturating_sub(OTHER_FILES).clamp(64, most))
}

fn write_kubeconfigs(args: &ServerArgs, ca: &ClusterCa) -> Outcome {
    let leaf = admin(ca)?;
    let ip = if args.bind.is_unspecified() {
        IpAddr::from([127, 0, 0, 1])
    } else {
        args.bind
    };
    let url = format!("https://{}", SocketAddr::new(ip, args.port));
    let text = strata_auth::kubeconfig(&url, ca.ca_pem(), &leaf, CONTEXT);
    for path in [Some(args.data_dir.join("admin.kubeconfig")), args.kubeconfig.clone()]
        .into_iter()
        .flatten()
    {
        write_new(&path, &text)?;
    }
    Ok(())
}

fn write_new(path: &Path, text: &str) -> Outcome {
    strata_auth::write_private(path, text.as_bytes()).during(format!("writing {}", path.display()))
}

/// A certificate of the administrator.
pub fn admin(ca: &ClusterCa) -> Outcome<Leaf> {
    ca.issue_client("strata-admin", &[GROUP_MASTERS])
        .during("issuing the administrator's certificate")
}

fn reconcilers(
    api: &Arc<ApiServer>,
    ca: &Arc<ClusterCa>,
    issuer: Arc<TokenIssuer>,
    (instance, args): (&Instance, &ServerArgs),
    cancel: &CancellationToken,
) -> Outcome<Reconcilers> {
    let server = api.clone();
    let client_for = Arc::new(move |name: &str| -> Client {
        server.client(match name {
            strata_controllers::SHARED_INFORMERS => {
                UserInfo::new("system:kube-controller-manager", &[strata_auth::GROUP_AUTHENTICATED])
            }
            controller => UserInfo::service_account("kube-system", controller, ""),
        })
    });
    let options = ControllersOptions {
        ca_pem: ca.ca_pem().to_owned(),
        issuer: Some(issuer),
        cluster_cidr: instance.cluster_cidr.clone(),
        ..ControllersOptions::new(client_for)
    };
    let job_metrics = options.job_metrics.clone();
    let controllers = Controllers::start(options, cancel.clone()).during("starting the controllers")?;
    let user = UserInfo::new("system:kube-scheduler", &[strata_auth::GROUP_AUTHENTICATED]);
    let options = SchedulerOptions {
        configuration: scheduler_configuration(args.scheduler_config.as_deref())?,
        ..SchedulerOptions::new(api.client(user))
    };
    let scheduler = Scheduler::start(options, cancel.clone());
    api.counts(Box::new(scheduler.shows()));
    let signer = CertificateSigner::start(api.client(master()), ca.clone(), vec![instance.api], cancel.clone());
    api.counts(Box::new(move |page| job_metrics.show(page)));
    api.runs(Box::new(scheduler.health()), Box::new(controllers.health()));
    Ok(Reconcilers {
        controllers,
        scheduler,
        signer,
    })
}

fn scheduler_configuration(file: Option<&Path>) -> Outcome<Configuration> {
    let Some(file) = file else {
        return Ok(Configuration::default());
    };
    let reading = || format!("reading {}", file.display());
    let text = std::fs::read_to_string(file).during(reading())?;
    let value: serde_json::Value = serde_saphyr::from_str(&text).during(reading())?;
    Configuration::read(&value).during(reading())
}

/// The composition's own identity, which may do everything.
fn master() -> UserInfo {
    UserInfo::new("strata-admin", &[GROUP_MASTERS, strata_auth::GROUP_AUTHENTICATED])
}

impl Plane {
    /// A client with every right, for what the composition itself has to write.
    pub fn admin(&self) -> Client {
        self.api.client(UserInfo::new(
            "strata-admin",
            &[GROUP_MASTERS, strata_auth::GROUP_AUTHENTICATED],
        ))
    }

    /// Waits until everything has ended after a cancellation.
    pub async fn join(self) {
        self.api.drain();
        self.tasks.close();
        self.tasks.wait().await;
        if let Some(reconcilers) = self.reconcilers {
            reconcilers.controllers.join().await;
            reconcilers.scheduler.stopped().await;
            reconcilers.signer.join().await;
        }
        self.api.stop().await;
    }
}
