//! Volumes of a pod and what they are made of.

use super::{Causes, environment};
use crate::validate::{
    Field,
    formats::{annotations, label_selector, labels, unreserved_path},
    storage,
};
use strata_meta::names;

const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

type Check = fn(&Field<'_>, &mut Causes);

/// The sources of a volume, in the order in which upstream looks at them.
const SOURCES: &[(&str, Check)] = &[
    ("emptyDir", empty_dir),
    ("hostPath", storage::host_path),
    ("gitRepo", git_repository),
    ("gcePersistentDisk", storage::gce_disk),
    ("awsElasticBlockStore", storage::aws_disk),
    ("secret", |f, c| keys(f, "secretName", c)),
    ("nfs", storage::nfs),
    ("iscsi", storage::iscsi),
    ("glusterfs", |f, c| {
        ["endpoints", "path"].iter().for_each(|m| f.at(m).needs(c))
    }),
    ("flocker", storage::flocker),
    ("persistentVolumeClaim", |f, c| f.at("claimName").needs(c)),
    ("rbd", |f, c| {
        ["monitors", "image"].iter().for_each(|m| f.at(m).needs(c))
    }),
    ("cinder", |f, c| f.at("volumeID").needs(c)),
    ("cephfs", |f, c| f.at("monitors").needs(c)),
    ("quobyte", storage::quobyte),
    ("downwardAPI", downward),
    ("fc", storage::fibre_channel),
    ("flexVolume", storage::flex),
    ("configMap", |f, c| keys(f, "name", c)),
    ("azureFile", |f, c| {
        ["secretName", "shareName"].iter().for_each(|m| f.at(m).needs(c))
    }),
    ("vsphereVolume", |f, c| f.at("volumePath").needs(c)),
    ("photonPersistentDisk", |f, c| f.at("pdID").needs(c)),
    ("portworxVolume", |f, c| f.at("volumeID").needs(c)),
    ("azureDisk", storage::azure_disk),
    ("storageos", |f, c| {
        f.at("volumeName").needs_text(c, names::dns1123_label)
    }),
    ("projected", projected),
    ("scaleIO", |f, c| {
        ["gateway", "system", "volumeName"]
            .iter()
            .for_each(|m| f.at(m).needs(c))
    }),
    ("csi", csi),
    ("ephemeral", ephemeral),
    ("image", image),
];

/// The volumes of a pod that are in order.
pub(super) struct Volumes<'v> {
    usable: Vec<Field<'v>>,
}

impl<'v> Volumes<'v> {
    /// Checks `spec.volumes`.
    pub(super) fn check(list: &Field<'v>, pod_name: &str, causes: &mut Causes) -> Self {
        let mut usable: Vec<Field<'v>> = Vec::new();
        for volume in list.items() {
            let mut found = Vec::new();
            source(&volume, &mut found);
            if volume.at("ephemeral").is_set() && !pod_name.is_empty() && !volume.at("name").is_empty() {
                let claim = format!("{pod_name}-{}", volume.at("name").text());
                let problems = names::dns1123_subdomain(&claim);
                let field = volume.at("name");
                let problem = |why: &String| {
                    field.invalid_as(volume.at("name").text(), format_args!("PVC name {claim:?}: {why}"))
                };
                found.extend(problems.iter().map(problem));
            }
            let name = volume.at("name");
            name.needs_text(&mut found, names::dns1123_label);
            if usable.iter().any(|u| u.at("name").text() == name.text()) {
                found.push(name.duplicate());
            }
            if found.is_empty() {
                usable.push(volume);
            }
            causes.append(&mut found);
        }
        Self { usable }
    }

    fn get(&self, name: &str) -> Option<&Field<'v>> {
        self.usable.iter().find(|v| v.at("name").text() == name)
    }

    /// Whether there is such a volume.
    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Whether a volume could be a block device; `None` when there is no such volume.
    pub(super) fn is_block(&self, name: &str) -> Option<bool> {
        let volume = self.get(name)?;
        Some(volume.at("persistentVolumeClaim").is_set() || volume.at("ephemeral").is_set())
    }
}

fn source(volume: &Field<'_>, causes: &mut Causes) {
    let mut first = true;
    for (name, rule) in SOURCES {
        let field = volume.at(name);
        if !field.is_set() {
            continue;
        }
        if first {
            rule(&field, causes);
        } else {
            causes.push(field.forbidden("may not specify more than 1 volume type"));
        }
        first = false;
    }
    if first {
        causes.push(volume.required("must specify a volume type"));
    }
}

fn empty_dir(field: &Field<'_>, causes: &mut Causes) {
    let limit = field.at("sizeLimit");
    if limit.quantity().is_some_and(|q| q.is_negative()) {
        causes.push(limit.forbidden("SizeLimit field must be a valid resource quantity"));
    }
}

fn git_repository(field: &Field<'_>, causes: &mut Causes) {
    field.at("repository").needs(causes);
    unreserved_path(&field.at("directory"), causes);
}

fn mode(field: &Field<'_>, causes: &mut Causes) {
    if field.int().is_some_and(|n| !(0..=0o777).contains(&n)) {
        causes.push(field.invalid(MODE));
    }
}

fn keys(field: &Field<'_>, name: &str, causes: &mut Causes) {
    field.at(name).needs(causes);
    mode(&field.at("defaultMode"), causes);
    for item in field.at("items").items() {
        key_to_path(&item, causes);
    }
}

fn key_to_path(item: &Field<'_>, causes: &mut Causes) {
    item.at("key").needs(causes);
    item.at("path").needs(causes);
    unreserved_path(&item.at("path"), causes);
    mode(&item.at("mode"), causes);
}

fn downward(field: &Field<'_>, causes: &mut Causes) {
    mode(&field.at("defaultMode"), causes);
    for file in field.at("items").items() {
        // Upstream names the volume, not the entry.
        downward_file(&file, field.path(), causes);
    }
}

fn downward_file(file: &Field<'_>, path: &str, causes: &mut Causes) {
    let at = |name: &str| file.at(name).named(format!("{path}.{name}"));
    at("path").needs(causes);
    unreserved_path(&at("path"), causes);
    let (field, resource) = (at("fieldRef"), at("resourceFieldRef"));
    if field.is_set() {
        environment::field_reference(&field, environment::FILE_FIELDS, causes);
        if resource.is_set() {
            let why = "fieldRef and resourceFieldRef can not be specified simultaneously";
            causes.push(file.named(path).invalid_as("resource", why));
        }
    } else if resource.is_set() {
        environment::resource_reference(&resource, true, causes);
    } else {
        causes.push(
            file.named(path)
                .required("one of fieldRef and resourceFieldRef is required"),
        );
    }
    mode(&at("mode"), causes);
}

fn projected(field: &Field<'_>, causes: &mut Causes) {
    mode(&field.at("defaultMode"), causes);
    let mut paths: Vec<&str> = Vec::new();
    for source in field.at("sources").items() {
        let mut kinds = 0;
        for kind in [
            "secret",
            "configMap",
            "downwardAPI",
            "serviceAccountToken",
            "clusterTrustBundle",
            "podCertificate",
        ] {
            let given = source.at(kind);
            if given.is_set() {
                kinds += 1;
                projection(field, kind, &given, &mut paths, causes);
            }
        }
        if kinds > 1 {
            causes.push(source.forbidden("may not specify more than 1 volume type"));
        }
    }
}

fn projection<'v>(volume: &Field<'_>, kind: &str, given: &Field<'v>, paths: &mut Vec<&'v str>, causes: &mut Causes) {
    match kind {
        "secret" | "configMap" => {
            given.at("name").needs(causes);
            for item in given.at("items").items() {
                key_to_path(&item, causes);
            }
        }
        "downwardAPI" => given
            .at("items")
            .items()
            .for_each(|f| downward_file(&f, given.path(), causes)),
        "serviceAccountToken" => {
            token(volume, given, causes);
            return;
        }
        "clusterTrustBundle" => {
            label_selector(&given.at("labelSelector"), causes);
            given.at("path").needs(causes);
            if given.at("name").is_set() && given.at("signerName").is_set() {
                causes.push(given.invalid("only one of name and signerName may be used"));
            }
        }
        _ => {}
    }
    for item in given.at("items").items() {
        let path = item.at("path").text();
        if !path.is_empty() && paths.contains(&path) {
            let shown = if kind == "downwardAPI" {
                path
            } else {
                given.at("name").text()
            };
            causes.push(volume.invalid_as(shown, "conflicting duplicate paths"));
        }
        paths.push(path);
    }
}

fn token(volume: &Field<'_>, given: &Field<'_>, causes: &mut Causes) {
    let seconds = given.at("expirationSeconds");
    if seconds.int().is_some_and(|n| n < 600) {
        causes.push(seconds.invalid("may not specify a duration less than 10 minutes"));
    }
    if seconds.int().is_some_and(|n| n > 1 << 32) {
        causes.push(seconds.invalid("may not specify a duration larger than 2^32 seconds"));
    }
    let path = given.at("path").named(format!("{}.path", volume.path()));
    path.needs(causes);
    unreserved_path(&path, causes);
}

fn csi(field: &Field<'_>, causes: &mut Causes) {
    storage::csi_driver(&field.at("driver"), causes);
    let secret = field.at("nodePublishSecretRef");
    if !secret.is_set() {
        return;
    }
    let name = secret.at("name");
    if name.is_empty() {
        causes.push(name.required(""));
    } else {
        // Upstream names the volume, not the reference.
        name.named(format!("{}.name", field.path()))
            .problems(causes, names::dns1123_subdomain(name.text()));
    }
}

fn image(field: &Field<'_>, causes: &mut Causes) {
    field.at("reference").needs(causes);
    field
        .at("pullPolicy")
        .if_one_of(causes, &["Always", "IfNotPresent", "Never"]);
}

fn ephemeral(field: &Field<'_>, causes: &mut Causes) {
    let template = field.at("volumeClaimTemplate");
    if template.is_set() {
        let metadata = template.at("metadata");
        labels(&metadata.at("labels"), causes);
        annotations(&metadata.at("annotations"), causes);
        crate::validate::claim_spec(&template.at("spec"), causes);
    } else {
        causes.push(template.required(""));
    }
}
