//! What a configuration may not say.

use super::{API_VERSION, Configuration, ConfigurationError};

impl Configuration {
    /// Whether every value makes sense, alone and beside the others.
    pub(super) fn check(&self) -> Result<(), ConfigurationError> {
        let wrong = ConfigurationError::value;
        one_of("apiVersion", &self.api_version, &[API_VERSION])?;
        one_of("kind", &self.kind, &["KubeletConfiguration"])?;
        one_of("cpuManagerPolicy", &self.cpu_manager_policy, &["none", "static"])?;
        for (option, value) in &self.cpu_manager_policy_options {
            one_of("cpuManagerPolicyOptions", option, &["full-pcpus-only"])?;
            one_of("cpuManagerPolicyOptions", value, &["true", "false"])?;
        }
        for what in &self.enforce_node_allocatable {
            // The other two of upstream's name cgroups that an administrator makes.
            one_of("enforceNodeAllocatable", what, &["pods", "none"])?;
        }
        if self.max_pods == 0 {
            return Err(wrong("maxPods", "must be greater than zero"));
        }
        if self.pod_pids_limit == 0 || self.pod_pids_limit < -1 {
            return Err(wrong("podPidsLimit", "must be -1 (no limit) or greater than zero"));
        }
        if self.container_log_max_files < 2 {
            return Err(wrong("containerLogMaxFiles", "must be greater than 1"));
        }
        if self.container_log_max_size.value() <= 0 {
            return Err(wrong("containerLogMaxSize", "must be greater than zero"));
        }
        if self.node_lease_duration_seconds == 0 {
            return Err(wrong("nodeLeaseDurationSeconds", "must be greater than zero"));
        }
        self.check_images()?;
        self.check_shutdown()?;
        self.check_reserved()?;
        self.thresholds().map(drop)
    }

    fn check_images(&self) -> Result<(), ConfigurationError> {
        let (high, low) = (
            self.image_gc_high_threshold_percent,
            self.image_gc_low_threshold_percent,
        );
        if high > 100 {
            return Err(ConfigurationError::value(
                "imageGCHighThresholdPercent",
                "must be between 0 and 100",
            ));
        }
        if low >= high {
            let why = format!("must be less than imageGCHighThresholdPercent ({high})");
            return Err(ConfigurationError::value("imageGCLowThresholdPercent", why));
        }
        let (youngest, oldest) = (self.image_minimum_gc_age, self.image_maximum_gc_age);
        if !oldest.is_zero() && oldest <= youngest {
            let why = format!("must be greater than imageMinimumGCAge ({youngest})");
            return Err(ConfigurationError::value("imageMaximumGCAge", why));
        }
        Ok(())
    }

    fn check_shutdown(&self) -> Result<(), ConfigurationError> {
        let (all, critical) = (self.shutdown_grace_period, self.shutdown_grace_period_critical_pods);
        if critical > all {
            let why = format!("must be less than or equal to shutdownGracePeriod ({all})");
            return Err(ConfigurationError::value("shutdownGracePeriodCriticalPods", why));
        }
        if !self.shutdown_grace_period_by_pod_priority.is_empty() && !all.is_zero() {
            let why = "cannot be used together with shutdownGracePeriod";
            return Err(ConfigurationError::value("shutdownGracePeriodByPodPriority", why));
        }
        Ok(())
    }
}

fn one_of(field: &'static str, given: &str, allowed: &[&str]) -> Result<(), ConfigurationError> {
    if allowed.contains(&given) {
        return Ok(());
    }
    Err(ConfigurationError::value(
        field,
        format!("{given:?} is not one of {}", allowed.join(", ")),
    ))
}
