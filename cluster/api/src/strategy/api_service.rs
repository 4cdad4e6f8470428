//! APIService: which server answers for a group and version.
//!
//! Rules and sentences: k8s.io/kube-aggregator/pkg/apis/apiregistration/validation.

use super::{Causes, Column, Strategy, columns};
use crate::{
    aggregate, json,
    validate::{Field, NameRule},
};
use serde_json::{Value, json};
use strata_meta::{StatusCause, names};

pub(super) struct ApiService;

fn is_local(object: &Value) -> bool {
    json::get(object, "spec.service").is_none_or(Value::is_null)
}

impl Strategy for ApiService {
    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn prepare_create(&self, object: &mut Value) {
        json::set(object, "status", json!({}));
        if is_local(object) {
            json::set(object, "status.conditions", json!([aggregate::condition()]));
        }
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let spec = Field::root(object).at("spec");
        let (group, version) = (spec.at("group"), spec.at("version"));
        let name = json::text(object, "metadata.name");
        let required = format!("{}.{}", version.text(), group.text());
        if name != required && names::path_segment(name).is_empty() {
            let why = format!("must be `spec.version+\".\"+spec.group`: {required:?}");
            causes.push(StatusCause::invalid("metadata.name", name, why));
        }
        if group.text().is_empty() {
            if version.text() != "v1" {
                let why = "only v1 may have an empty group and it better be legacy kube";
                causes.push(StatusCause::required("spec.group", why));
            }
        } else {
            group.problems(causes, names::dns1123_subdomain(group.text()));
        }
        let problems = names::dns1035_label(version.text());
        causes.extend(problems.iter().map(|why| version.invalid_as(version.text(), why)));
        for (member, most) in [("groupPriorityMinimum", 20000), ("versionPriority", 1000)] {
            let field = spec.at(member);
            let number = field.int().unwrap_or(0);
            if number <= 0 || number > most {
                causes.push(field.invalid_as(number, format!("must be positive and less than {most}")));
            }
        }
        let bundle = spec.at("caBundle");
        let insecure = spec.at("insecureSkipTLSVerify");
        if is_local(object) {
            if !bundle.text().is_empty() {
                let shown = format!("{} bytes", super::secret::bytes_of(bundle.text()));
                causes.push(bundle.invalid_as(shown, "local APIServices may not have a caBundle"));
            }
            if insecure.flag() {
                causes.push(insecure.invalid_as(true, "local APIServices may not have insecureSkipTLSVerify"));
            }
            return;
        }
        let service = spec.at("service");
        for member in ["namespace", "name"] {
            if service.at(member).text().is_empty() {
                causes.push(StatusCause::required(service.at(member).path(), ""));
            }
        }
        let port = service.at("port");
        let number = port.int().unwrap_or(443);
        if !(1..=65535).contains(&number) {
            causes.push(port.invalid_as(number, "port is not valid: must be between 1 and 65535, inclusive"));
        }
        if insecure.flag() && !bundle.text().is_empty() {
            causes.push(insecure.invalid_as(true, "may not be true if caBundle is present"));
        }
    }

    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        for member in ["labels", "annotations", "finalizers", "ownerReferences"] {
            json::copy(old, new, &format!("metadata.{member}"));
        }
    }

    fn validate_status_update(&self, new: &Value, _old: &Value, causes: &mut Causes) {
        for condition in Field::root(new).at("status.conditions").items() {
            let status = condition.at("status");
            let known = ["True", "False", "Unknown"];
            if !known.contains(&status.text()) {
                causes.push(StatusCause::not_supported(status.path(), status.text(), &known));
            }
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            columns::NAME,
            columns::column(
                "Service",
                "string",
                "The reference to the service that hosts this API endpoint.",
                |cx| {
                    if is_local(cx.object) {
                        return "Local".into();
                    }
                    let part = |path| json::text(cx.object, path);
                    format!("{}/{}", part("spec.service.namespace"), part("spec.service.name")).into()
                },
            ),
            columns::column("Available", "string", "Whether this service is available.", |cx| {
                let conditions = json::list(cx.object, "status.conditions");
                match conditions.iter().find(|c| json::text(c, "type") == "Available") {
                    None => "Unknown".into(),
                    Some(c) if json::text(c, "status") == "True" => "True".into(),
                    Some(c) => format!("{} ({})", json::text(c, "status"), json::text(c, "reason")).into(),
                }
            }),
            columns::AGE,
        ];
        COLUMNS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(object: &Value) -> Vec<String> {
        let mut causes = Vec::new();
        ApiService.validate(object, &mut causes);
        causes.into_iter().map(|c| c.field).collect()
    }

    #[test]
    fn a_service_is_named_for_what_it_serves() {
        let mut object = json!({"metadata": {"name": "v1.example.com"}, "spec": {"group": "example.com", "version": "v1",
            "groupPriorityMinimum": 100, "versionPriority": 10, "service": {"namespace": "a", "name": "b", "port": 443}}});
        assert_eq!(problems(&object), Vec::<String>::new());
        object["spec"]["version"] = json!("v2");
        object["spec"]["versionPriority"] = json!(0);
        object["spec"]["insecureSkipTLSVerify"] = json!(true);
        object["spec"]["caBundle"] = json!("YQ==");
        assert_eq!(
            problems(&object),
            ["metadata.name", "spec.versionPriority", "spec.insecureSkipTLSVerify"]
        );
        object = json!({"metadata": {"name": "v1."}, "spec": {"version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1}});
        assert_eq!(problems(&object), Vec::<String>::new());
        ApiService.prepare_create(&mut object);
        assert_eq!(object["status"]["conditions"][0]["reason"], "Local");
    }
}
