//! Images made from Debian packages.

use crate::Registry;
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// An OCI layout on disk with one image.
pub struct Image {
    folder: TempDir,
}

impl Image {
    /// Puts the image into a registry; the name to pull it by.
    pub fn push(&self, registry: &Registry, name: &str) -> String {
        let target = format!("{}/{name}", registry.address());
        let (from, to) = (
            format!("oci:{}:latest", self.layout().display()),
            format!("docker://{target}"),
        );
        run(
            "skopeo",
            &["--insecure-policy", "copy", "-q", "--dest-tls-verify=false", &from, &to],
        );
        target
    }

    /// Writes a docker archive.
    pub fn archive(&self, path: &Path, name: &str) {
        let from = format!("oci:{}:latest", self.layout().display());
        run(
            "skopeo",
            &[
                "--insecure-policy",
                "copy",
                "-q",
                &from,
                &format!("docker-archive:{}:{name}", path.display()),
            ],
        );
    }

    fn layout(&self) -> PathBuf {
        self.folder.path().join("layout")
    }
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|e| panic!("{program} is installed by `make setup`: {e}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn build(root: &Path, folder: TempDir, config: &[&str]) -> Image {
    let image = Image { folder };
    let layout = image.layout();
    let (layout, tagged) = (
        layout.to_string_lossy().into_owned(),
        format!("{}:latest", layout.display()),
    );
    run("umoci", &["init", "--layout", &layout]);
    run("umoci", &["new", "--image", &tagged]);
    run("umoci", &["insert", "--image", &tagged, &root.to_string_lossy(), "/"]);
    let mut arguments = vec!["config", "--image", &tagged];
    arguments.extend(config);
    run("umoci", &arguments);
    image
}

/// busybox: a shell and the usual tools.
pub fn build_busybox() -> Image {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path().join("root");
    for dir in ["bin", "etc", "tmp", "root", "home"] {
        fs::create_dir_all(root.join(dir)).expect("a folder");
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed; run `make setup`");
    let list = Command::new("/bin/busybox")
        .arg("--list")
        .output()
        .expect("busybox runs");
    for applet in String::from_utf8_lossy(&list.stdout)
        .lines()
        .filter(|a| *a != "busybox")
    {
        symlink("busybox", root.join("bin").join(applet)).expect("a link");
    }
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/sh\n",
    )
    .expect("a file");
    fs::write(root.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n").expect("a file");
    build(&root, folder, &["--config.cmd", "sh", "--config.env", "PATH=/bin"])
}

/// nginx with the libraries it needs, answering on port 80.
pub fn build_nginx() -> Image {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path().join("root");
    for dir in ["etc/nginx", "var/log/nginx", "var/lib/nginx", "run", "tmp", "srv"] {
        fs::create_dir_all(root.join(dir)).expect("a folder");
    }
    let program = ["/usr/sbin/nginx", "/bin/busybox"];
    let listed = Command::new("ldd").arg(program[0]).output().expect("ldd runs");
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    let libraries = text
        .lines()
        .flat_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    for file in libraries.chain(program) {
        let target = root.join(&file[1..]);
        fs::create_dir_all(target.parent().expect("a file has a folder")).expect("a folder");
        fs::copy(file, target).expect("nginx-light is installed; run `make setup`");
    }
    symlink("/bin/busybox", root.join("bin/sh")).expect("a link");
    let config = "daemon off; user root; error_log /dev/stderr; pid /run/nginx.pid;\nevents {}\n\
                  http { access_log /dev/stdout; server { listen 80; root /srv; } }\n";
    fs::write(root.join("etc/nginx/nginx.conf"), config).expect("a file");
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").expect("a file");
    fs::write(root.join("etc/group"), "root:x:0:\n").expect("a file");
    fs::write(root.join("srv/index.html"), "nginx in strata\n").expect("a file");
    build(
        &root,
        folder,
        &[
            "--config.entrypoint",
            "/usr/sbin/nginx",
            "--config.exposedports",
            "80/tcp",
        ],
    )
}
