//! Failures of the commands for images, in the words by which scripts know them.

use crate::failure::{Failure, Outcome};
use strata_console::misnamed;
use strata_image::{ImageError, Reference};

/// What the engine would answer, as docker's client prints it.
pub fn answered(sentence: impl std::fmt::Display) -> Failure {
    Failure(format!("Error response from daemon: {sentence}"))
}

/// The result of something done to an image that goes by that name.
pub fn of<T>(result: Result<T, ImageError>, name: &str) -> Outcome<T> {
    result.map_err(|error| answered(sentence(&error, name)))
}

fn sentence(error: &ImageError, name: &str) -> String {
    match error {
        ImageError::InvalidReference { name, why } => misnamed(name, why),
        ImageError::Filter(text) => format!("invalid filter '{}'", text.split('=').next().unwrap_or(text)),
        ImageError::InUse { owner, .. } if owner.contains(' ') => {
            format!("conflict: unable to delete {name} (must be forced) - image is referenced in multiple repositories")
        }
        ImageError::InUse { image, owner } => format!(
            "conflict: unable to remove repository reference {name:?} (must force) - container {} is using its referenced image {image}",
            owner.get(..12).unwrap_or(owner)
        ),
        ImageError::Absent(name) => format!("No such image: {}", strata_template::tagged(name)),
        other => other.to_string(),
    }
}

/// A name that a user gives a new image, checked before anything is asked.
pub fn new_name(name: &str) -> Outcome {
    match name.parse::<Reference>() {
        Err(ImageError::InvalidReference { why, .. }) => Err(Failure(format!(
            "Error parsing reference: {name:?} is not a valid repository/tag: {}",
            misnamed(name, why)
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_as_docker_tells_them() {
        let absent = ImageError::Absent("x".into());
        assert_eq!(sentence(&absent, "x"), "No such image: x:latest");
        let told = new_name("BAD").expect_err("upper case").0;
        let expected = "Error parsing reference: \"BAD\" is not a valid repository/tag: invalid reference format: repository name (library/BAD) must be lowercase";
        assert_eq!(told, expected);
        assert!(new_name("r.example/a:b").is_ok());
    }
}
