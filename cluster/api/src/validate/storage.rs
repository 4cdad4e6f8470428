//! Where volumes come from: the sources that pods and PersistentVolumes share
//! (k8s.io/kubernetes/pkg/apis/core/validation).

use super::{Field, access_modes, formats::no_backsteps, pod::node_selector};
use strata_meta::{StatusCause, names};

type Causes = Vec<StatusCause>;
type Check = fn(&Field<'_>, &mut Causes);

const PARTITION: &str = "must be between 1 and 255, inclusive";

/// The sources of a PersistentVolume, in the order in which upstream looks at them.
const SOURCES: &[(&str, Check)] = &[
    ("hostPath", host_path),
    ("gcePersistentDisk", gce_disk),
    ("awsElasticBlockStore", aws_disk),
    ("glusterfs", |f, c| {
        needs(f, &["endpoints", "path"], c);
        let namespace = f.at("endpointsNamespace");
        if namespace.is_set() && namespace.is_empty() {
            c.push(namespace.invalid("if the endpointnamespace is set, it must be a valid namespace name"));
        } else {
            namespace.if_text(c, names::dns1123_label);
        }
    }),
    ("flocker", flocker),
    ("nfs", nfs),
    ("rbd", |f, c| needs(f, &["monitors", "image"], c)),
    ("quobyte", quobyte),
    ("cephfs", |f, c| needs(f, &["monitors"], c)),
    ("iscsi", |f, c| iscsi_source(f, "must be valid format", c)),
    ("cinder", |f, c| {
        needs(f, &["volumeID"], c);
        if f.at("secretRef").is_set() {
            needs(f, &["secretRef.name", "secretRef.namespace"], c);
        }
    }),
    ("fc", fibre_channel),
    ("flexVolume", flex),
    ("azureFile", |f, c| {
        needs(f, &["secretName", "shareName"], c);
        if f.at("secretNamespace").is_set() {
            needs(f, &["secretNamespace"], c);
        }
    }),
    ("vsphereVolume", |f, c| needs(f, &["volumePath"], c)),
    ("photonPersistentDisk", |f, c| needs(f, &["pdID"], c)),
    ("portworxVolume", |f, c| needs(f, &["volumeID"], c)),
    ("azureDisk", azure_disk),
    ("scaleIO", |f, c| needs(f, &["gateway", "system", "volumeName"], c)),
    ("local", |f, c| {
        needs(f, &["path"], c);
        no_backsteps(&f.at("path"), c);
    }),
    ("storageos", |f, c| {
        f.at("volumeName").needs_text(c, names::dns1123_label);
        f.at("volumeNamespace").if_text(c, names::dns1123_label);
        if f.at("secretRef").is_set() {
            needs(f, &["secretRef.name", "secretRef.namespace"], c);
        }
    }),
    ("csi", csi),
];

/// The spec of a PersistentVolume.
pub(crate) fn volume_spec(spec: &Field<'_>, causes: &mut Causes) {
    access_modes(&spec.at("accessModes"), "", causes);
    let capacity = spec.at("capacity");
    capacity.needs(causes);
    if !capacity.key("storage").is_set() || capacity.len() > 1 {
        causes.push(StatusCause {
            message: format!("Unsupported value: {}: supported values: \"storage\"", capacity.value()),
            ..capacity.not_supported(&["storage"])
        });
    }
    for (_, amount) in capacity.entries() {
        let Some(quantity) = amount.quantity() else { continue };
        if quantity.is_negative() {
            causes.push(amount.invalid_as(quantity.value(), "must be a valid resource quantity"));
        }
        if quantity.is_negative() || quantity.is_zero() {
            causes.push(amount.invalid_as(quantity.to_string(), "must be greater than zero"));
        }
    }
    let (policy, affinity) = (spec.at("persistentVolumeReclaimPolicy"), spec.at("nodeAffinity"));
    if !policy.is_empty() {
        policy.if_one_of(causes, &["Delete", "Recycle", "Retain"]);
    }
    volume_affinity(&affinity, causes);
    volume_source(spec, causes);
    if spec.at("local").is_set() && !affinity.is_set() {
        causes.push(affinity.required("Local volume requires node affinity"));
    }
    if spec.at("hostPath.path").text() == "/" && policy.text() == "Recycle" {
        causes.push(policy.forbidden("may not be 'recycle' for a hostPath mount of '/'"));
    }
    spec.at("storageClassName").if_text(causes, names::dns1123_subdomain);
    spec.at("volumeMode").if_one_of(causes, &["Block", "Filesystem"]);
    let class = spec.at("volumeAttributesClassName");
    if !class.is_set() {
        return;
    }
    if class.is_empty() {
        causes.push(class.required("an empty string is disallowed"));
    } else {
        class.problems(causes, names::dns1123_subdomain(class.text()));
    }
    if !spec.at("csi").is_set() {
        let why = "has to be specified when using volumeAttributesClassName";
        causes.push(spec.at("csi").required(why));
    }
}

/// The spec of a volume that stands in an attachment.
pub(crate) fn inline_volume(spec: &Field<'_>, causes: &mut Causes) {
    const INLINE: &str = "may not be specified in the context of inline volumes";
    for name in ["claimRef", "capacity", "nodeAffinity", "storageClassName"] {
        if !spec.at(name).is_empty() {
            causes.push(spec.at(name).forbidden(INLINE));
        }
    }
    if !spec.at("csi").is_set() {
        causes.push(
            spec.at("csi")
                .required("has to be specified in the context of inline volumes"),
        );
    }
    access_modes(&spec.at("accessModes"), "", causes);
    for (name, only) in [
        ("persistentVolumeReclaimPolicy", "Retain"),
        ("volumeMode", "Filesystem"),
    ] {
        let field = spec.at(name);
        if !field.is_empty() && field.text() != only {
            let why = match name {
                "volumeMode" => {
                    format!("may not specify volumeMode other than {only} in the context of inline volumes")
                }
                _ => format!("may only be {only} in the context of inline volumes"),
            };
            causes.push(field.forbidden(&why));
        }
    }
    volume_source(spec, causes);
}

/// The one source of a PersistentVolume's spec.
fn volume_source(spec: &Field<'_>, causes: &mut Causes) {
    let mut given = SOURCES
        .iter()
        .map(|(name, rule)| (spec.at(name), rule))
        .filter(|(f, _)| f.is_set());
    match given.next() {
        None => causes.push(spec.required("must specify a volume type")),
        Some((field, rule)) => rule(&field, causes),
    }
    causes.extend(given.map(|(field, _)| field.forbidden("may not specify more than 1 volume type")));
}

/// Names of the sources, to compare them.
pub(crate) fn volume_sources() -> impl Iterator<Item = &'static str> {
    SOURCES.iter().map(|(name, _)| *name)
}

/// `nodeAffinity` of a volume.
fn volume_affinity(affinity: &Field<'_>, causes: &mut Causes) {
    let required = affinity.at("required");
    if required.is_set() {
        node_selector(&required, causes);
    } else if affinity.is_set() {
        causes.push(required.required("must specify required node constraints"));
    }
}

/// The name of a CSI driver.
pub(crate) fn csi_driver(name: &Field<'_>, causes: &mut Causes) {
    if name.is_empty() {
        causes.push(name.required(""));
        return;
    }
    if name.text().len() > 63 {
        causes.push(name.too_long(63));
    }
    name.problems(causes, names::dns1123_subdomain(&name.text().to_lowercase()));
}

fn needs(field: &Field<'_>, members: &[&str], causes: &mut Causes) {
    members.iter().for_each(|name| field.at(name).needs(causes));
}

/// `hostPath`.
pub(crate) fn host_path(field: &Field<'_>, causes: &mut Causes) {
    field.at("path").needs(causes);
    no_backsteps(&field.at("path"), causes);
    let kinds = [
        "",
        "BlockDevice",
        "CharDevice",
        "Directory",
        "DirectoryOrCreate",
        "File",
        "FileOrCreate",
        "Socket",
    ];
    field.at("type").if_one_of(causes, &kinds);
}

/// `nfs`.
pub(crate) fn nfs(field: &Field<'_>, causes: &mut Causes) {
    needs(field, &["server", "path"], causes);
    let path = field.at("path");
    if !path.text().starts_with('/') {
        causes.push(path.invalid_as(path.text(), "must be an absolute path"));
    }
}

/// `gcePersistentDisk`.
pub(crate) fn gce_disk(field: &Field<'_>, causes: &mut Causes) {
    // Upstream's path is the Go name's.
    let path = field.path().replace("gcePersistentDisk", "persistentDisk");
    disk(&field.named(path), "pdName", causes);
}

/// `awsElasticBlockStore`.
pub(crate) fn aws_disk(field: &Field<'_>, causes: &mut Causes) {
    disk(field, "volumeID", causes);
}

fn disk(field: &Field<'_>, id: &str, causes: &mut Causes) {
    needs(field, &[id], causes);
    let partition = field.at("partition");
    if partition.int().is_some_and(|n| !(0..=255).contains(&n)) {
        causes.push(partition.invalid(PARTITION));
    }
}

/// `flocker`.
pub(crate) fn flocker(field: &Field<'_>, causes: &mut Causes) {
    let (name, id) = (field.at("datasetName"), field.at("datasetUUID"));
    match (name.is_empty(), id.is_empty()) {
        (true, true) => causes.push(field.required("one of datasetName and datasetUUID is required")),
        (false, false) => causes.push(field.invalid_as(
            "resource",
            "datasetName and datasetUUID can not be specified simultaneously",
        )),
        _ => {}
    }
    if name.text().contains('/') {
        causes.push(name.invalid("must not contain '/'"));
    }
}

/// `quobyte`.
pub(crate) fn quobyte(field: &Field<'_>, causes: &mut Causes) {
    const PAIRS: &str = "must be a host:port pair or multiple pairs separated by commas";
    let registry = field.at("registry");
    if registry.is_empty() {
        causes.push(registry.required(PAIRS));
    } else if field.at("tenant").text().len() >= 65 {
        let why = "must be a UUID and may not exceed a length of 64 characters";
        causes.push(field.at("tenant").required(why));
    } else {
        let is_pair = |pair: &&str| pair.rsplit_once(':').is_some_and(|(host, _)| !host.contains(':'));
        let bad = registry.text().split(',').filter(|pair| !is_pair(pair));
        causes.extend(bad.map(|_| registry.invalid(PAIRS)));
    }
    field.at("volume").needs(causes);
}

/// `iscsi` of a pod.
pub(crate) fn iscsi(field: &Field<'_>, causes: &mut Causes) {
    iscsi_source(field, "must be valid format starting with iqn, eui, or naa", causes);
}

fn iscsi_source(field: &Field<'_>, format: &str, causes: &mut Causes) {
    let (portal, name) = (field.at("targetPortal"), field.at("iqn"));
    let initiator = field.at("initiatorName");
    portal.needs(causes);
    if initiator.is_set() && portal.text().len() > 63 {
        let why = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
        causes.push(portal.named(format!("{}.targetportal", field.path())).invalid(why));
    }
    if name.is_empty() {
        causes.push(name.required(""));
    } else if !is_iscsi_name(name.text()) {
        let known = ["iqn", "eui", "naa"].iter().any(|kind| name.text().starts_with(kind));
        causes.push(name.invalid(if known { "must be valid format" } else { format }));
    }
    let lun = field.at("lun");
    lun.within(causes, 0, 255);
    let authenticates = field.at("chapAuthDiscovery").flag() || field.at("chapAuthSession").flag();
    let secret = field.at("secretRef");
    if authenticates && !secret.is_set() {
        causes.push(secret.required(""));
    }
    if secret.is_set() {
        secret.at("name").needs(causes);
    }
    if initiator.is_set() && !is_iscsi_name(initiator.text()) {
        let named = initiator.named(format!("{}.initiatorname", field.path()));
        causes.push(named.invalid("must be valid format"));
    }
}

/// RFC 3720: `iqn.yyyy-mm.reversed.domain[:text]`, `eui.` and 16 hex digits, `naa.` and 32.
fn is_iscsi_name(name: &str) -> bool {
    let hex =
        |text: &str, lengths: &[usize]| lengths.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    if let Some(digits) = name.strip_prefix("eui.") {
        return hex(digits, &[16]);
    }
    if let Some(digits) = name.strip_prefix("naa.") {
        return hex(digits, &[16, 32]);
    }
    let Some(rest) = name.strip_prefix("iqn.") else {
        return false;
    };
    let (date, rest) = rest.split_at_checked(7).unwrap_or(("", ""));
    let dated = date
        .bytes()
        .enumerate()
        .all(|(i, b)| if i == 4 { b == b'-' } else { b.is_ascii_digit() });
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b':' | b'_');
    !date.is_empty() && dated && rest.len() > 1 && rest.starts_with('.') && rest.bytes().all(allowed)
}

/// `fc`.
pub(crate) fn fibre_channel(field: &Field<'_>, causes: &mut Causes) {
    let (targets, ids, lun) = (field.at("targetWWNs"), field.at("wwids"), field.at("lun"));
    match (targets.is_empty(), ids.is_empty()) {
        (true, true) => {
            causes.push(targets.required("must specify either targetWWNs or wwids, but not both"));
        }
        (false, false) => {
            causes.push(targets.invalid("targetWWNs and wwids can not be specified simultaneously"));
        }
        _ => {}
    }
    if !targets.is_empty() && !lun.is_set() {
        causes.push(lun.required("lun is required if targetWWNs is specified"));
    } else if !targets.is_empty() {
        lun.within(causes, 0, 255);
    }
}

/// `flexVolume`.
pub(crate) fn flex(field: &Field<'_>, causes: &mut Causes) {
    field.at("driver").needs(causes);
    for (key, option) in field.at("options").entries() {
        let domain = format!(".{}", key.split('/').next().unwrap_or(key).to_lowercase());
        if domain.ends_with(".kubernetes.io") || domain.ends_with(".k8s.io") {
            causes.push(option.invalid_as(key, "kubernetes.io and k8s.io namespaces are reserved"));
        }
    }
}

/// `azureDisk`.
pub(crate) fn azure_disk(field: &Field<'_>, causes: &mut Causes) {
    needs(field, &["diskName", "diskURI"], causes);
    let modes = ["None", "ReadOnly", "ReadWrite"];
    field.at("cachingMode").if_one_of(causes, &modes);
    let (kind, uri) = (field.at("kind"), field.at("diskURI"));
    kind.if_one_of(causes, &["Dedicated", "Managed", "Shared"]);
    let (start, form) = match kind.text() {
        "Managed" => (
            "/subscriptions/",
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}",
        ),
        _ => (
            "https://",
            "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd",
        ),
    };
    if kind.is_set() && !uri.text().starts_with(start) {
        causes.push(uri.not_supported(&[form]));
    }
}

fn csi(field: &Field<'_>, causes: &mut Causes) {
    csi_driver(&field.at("driver"), causes);
    field.at("volumeHandle").needs(causes);
    for name in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ] {
        let secret = field.at(name);
        if secret.is_set() {
            secret.at("name").needs_text(causes, names::dns1123_subdomain);
            secret.at("namespace").needs_text(causes, names::dns1123_label);
        }
    }
}
