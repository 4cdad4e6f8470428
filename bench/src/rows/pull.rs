//! Images from a registry: pulled and unpacked by command, beside containerd.

use super::{containerd::Containerd, ratio};
use crate::{
    Options,
    disk::Disk,
    failure::{Outcome, fail},
    figures::{Samples, short},
    process::Owned,
    table::Row,
};
use serde_json::{Value, json};
use std::{
    collections::HashSet,
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use strata_image::Digest;

const LAYERS: usize = 5;
/// Of each layer, compressed.
const LAYER_BYTES: u64 = 40 << 20;
const ROUNDS: usize = 3;
const BAR_FIRST: f64 = 0.65;
const BAR_INFLATE: f64 = 1.6;
const BAR_SECOND: f64 = 0.25;
/// How long the registry may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Where files are taken from that look like an image's.
const SOURCE: &str = "/usr";

/// Milliseconds.
#[derive(Default)]
struct Times {
    ours: Vec<f64>,
    second: Vec<f64>,
    containerd: Vec<f64>,
    inflate: Vec<f64>,
}

pub async fn measure(options: &Options) -> Outcome<Vec<Row>> {
    let folder = tempfile::Builder::new().prefix("pull-").tempdir_in(&options.work)?;
    let folder = folder.path();
    eprintln!("  making an image");
    let layers = layers(folder)?;
    let registry = Registry::start(folder).await?;
    registry.push(folder, &layers[..LAYERS], "first")?;
    // The same but for its last layer.
    let mut other = layers[..LAYERS - 1].to_vec();
    other.push(layers[LAYERS].clone());
    registry.push(folder, &other, "second")?;
    let bytes: u64 = layers[..LAYERS].iter().map(|layer| layer.size).sum();
    let disk = Disk::make(folder)?;
    let mut times = Times::default();
    for round in 0..ROUNDS {
        times.inflate.push(inflate(&layers[..LAYERS])?);
        // Nothing is removed between rounds, see [`Disk`].
        let round = disk.path().join(format!("round-{round}"));
        let data = round.join("data");
        let ours = |name: &str| {
            let mut command = Command::new(&options.strata);
            command
                .arg("image")
                .arg("pull")
                .arg("--data-dir")
                .arg(&data)
                .arg(registry.name(name));
            timed(&mut command)
        };
        times.ours.push(ours("first")?);
        times.second.push(ours("second")?);
        if let Some(containerd) = Containerd::start(&round).await? {
            let name = registry.name("first");
            let mut pull = containerd.ctr(&["images", "pull", "--plain-http", &name]);
            times.containerd.push(timed(&mut pull)?);
        }
    }
    Ok(rows(times, bytes))
}

fn rows(times: Times, bytes: u64) -> Vec<Row> {
    let Times {
        ours,
        second,
        containerd,
        inflate,
    } = times;
    let [ours, second, containerd, inflate] = [ours, second, containerd, inflate].map(Samples::from_numbers);
    let text = |s: &Samples| format!("{} ms (min {})", short(s.median()), short(s.min()));
    let peer = || match containerd.len() {
        0 => "–".to_owned(),
        _ => format!("containerd {}", text(&containerd)),
    };
    let megabytes = bytes / 1_000_000;
    let how = format!(
        "Median of {ROUNDS} rounds in turns, each from nothing: `strata image pull` and `ctr images pull --plain-http` of an \
         image of {LAYERS} gzip layers, {megabytes} MB in all, of files of this machine, from docker-registry on loopback to a fresh ext4."
    );
    let within = ours.median() <= BAR_INFLATE * inflate.median();
    vec![
        Row {
            what: format!("pull and unpack {megabytes} MB in {LAYERS} layers"),
            strata: text(&ours),
            peer: peer(),
            ratio: ratio(ours.median(), containerd.median()),
            bar: format!("{BAR_FIRST}x containerd"),
            met: (containerd.len() > 0).then(|| ours.median() <= BAR_FIRST * containerd.median()),
            how: how.clone(),
        },
        Row {
            what: "the same beside inflating its layers alone".into(),
            strata: text(&ours),
            peer: format!("gzip -dc {}", text(&inflate)),
            ratio: ratio(ours.median(), inflate.median()),
            bar: format!("{BAR_INFLATE}x"),
            met: Some(within),
            how: format!("{how} Inflating: `gzip -dc` of one layer after another."),
        },
        Row {
            what: format!("a second pull that shares {} layers", LAYERS - 1),
            strata: text(&second),
            peer: format!("the first pull {}", text(&ours)),
            ratio: ratio(second.median(), ours.median()),
            bar: format!("{BAR_SECOND}x"),
            met: Some(second.median() <= BAR_SECOND * ours.median()),
            how,
        },
    ]
}

/// Milliseconds that a command takes; must succeed.
fn timed(command: &mut Command) -> Outcome<f64> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let began = Instant::now();
    let output = command.output()?;
    let took = began.elapsed();
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return fail(format!("{command:?}: {}: {}", output.status, why.trim()));
    }
    Ok(took.as_secs_f64() * 1e3)
}

/// A compressed layer in a file.
#[derive(Clone)]
struct Layer {
    path: PathBuf,
    digest: Digest,
    diff_id: Digest,
    size: u64,
}

/// One layer more than an image has.
fn layers(folder: &Path) -> Outcome<Vec<Layer>> {
    let files = Command::new("find")
        .args([SOURCE, "-xdev", "-type", "f", "-size", "-8192k", "-printf", "%s %p\\n"])
        .stderr(Stdio::null())
        .output()?;
    let listed = String::from_utf8_lossy(&files.stdout).into_owned();
    let mut files: Vec<(u64, &str)> = listed
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(size, path)| Some((size.parse().ok()?, path)))
        .collect();
    files.sort_by_key(|(_, path)| *path);
    let mut files = files.into_iter();
    // Programs and their data shrink to two fifths.
    (0..=LAYERS)
        .map(|number| {
            let mut bytes = 0;
            let mut names = String::new();
            let mut folders = HashSet::new();
            for (size, path) in files.by_ref() {
                // Builders write a folder before what is in it.
                let above: Vec<&Path> = Path::new(path).ancestors().skip(1).collect();
                for folder in above
                    .into_iter()
                    .rev()
                    .filter(|folder| folders.insert(folder.to_owned()))
                {
                    names.push_str(&format!("{}\n", folder.display()));
                }
                names.push_str(path);
                names.push('\n');
                bytes += size;
                if bytes > LAYER_BYTES * 5 / 2 {
                    break;
                }
            }
            if bytes == 0 {
                return fail(format!("too few files in {SOURCE}"));
            }
            layer(folder, number, &names)
        })
        .collect()
}

fn layer(folder: &Path, number: usize, names: &str) -> Outcome<Layer> {
    let tar = folder.join(format!("layer-{number}.tar"));
    let list = folder.join("names");
    fs::write(&list, names)?;
    // 1: a file was cut or went while it was read.
    let packed = Command::new("tar")
        .args(["--create", "--no-recursion", "--ignore-failed-read", "--file"])
        .arg(&tar)
        .arg("--files-from")
        .arg(&list)
        .stderr(Stdio::null())
        .status()?;
    if packed.code().is_none_or(|code| code > 1) {
        return fail(format!("tar: {packed}"));
    }
    let diff_id = Digest::of(&fs::read(&tar)?);
    timed(Command::new("gzip").arg("--force").arg("-6").arg(&tar))?;
    let path = tar.with_extension("tar.gz");
    let content = fs::read(&path)?;
    Ok(Layer {
        digest: Digest::of(&content),
        diff_id,
        size: content.len() as u64,
        path,
    })
}

/// Milliseconds to inflate layers one after another.
fn inflate(layers: &[Layer]) -> Outcome<f64> {
    let mut sum = 0.0;
    for layer in layers {
        sum += timed(Command::new("gzip").arg("-dc").arg(&layer.path))?;
    }
    Ok(sum)
}

/// docker-registry on a free port of loopback.
struct Registry {
    _server: Owned,
    port: u16,
}

impl Registry {
    async fn start(folder: &Path) -> Outcome<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let config = json!({
            "version": 0.1,
            "storage": {"filesystem": {"rootdirectory": folder.join("registry")}},
            "http": {"addr": format!("127.0.0.1:{port}")},
            "log": {"level": "error"},
        });
        // JSON is YAML.
        let path = folder.join("registry.yaml");
        fs::write(&path, config.to_string())?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(path);
        let server = Owned::start(&mut command, &folder.join("registry.log"))?;
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if began.elapsed() > PATIENCE {
                return fail("docker-registry does not answer");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(Self { _server: server, port })
    }

    fn name(&self, tag: &str) -> String {
        format!("localhost:{}/bench:{tag}", self.port)
    }

    /// Puts an image there, by way of an OCI layout and skopeo.
    fn push(&self, folder: &Path, layers: &[Layer], tag: &str) -> Outcome {
        let layout = folder.join(format!("layout-{tag}"));
        let blobs = layout.join("blobs/sha256");
        fs::create_dir_all(&blobs)?;
        for layer in layers {
            fs::hard_link(&layer.path, blobs.join(layer.digest.hex()))?;
        }
        let put = |document: &Value| -> Outcome<Value> {
            let text = document.to_string();
            let digest = Digest::of(text.as_bytes());
            fs::write(blobs.join(digest.hex()), &text)?;
            Ok(json!({"digest": digest.to_string(), "size": text.len()}))
        };
        let typed = |mut descriptor: Value, media: &str| {
            descriptor["mediaType"] = media.into();
            descriptor
        };
        let diff_ids: Vec<String> = layers.iter().map(|layer| layer.diff_id.to_string()).collect();
        let config = put(&json!({
            "architecture": "amd64", "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }))?;
        let of_layer = |layer: &Layer| {
            let descriptor = json!({"digest": layer.digest.to_string(), "size": layer.size});
            typed(descriptor, "application/vnd.oci.image.layer.v1.tar+gzip")
        };
        let manifest = put(&json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": typed(config, "application/vnd.oci.image.config.v1+json"),
            "layers": layers.iter().map(of_layer).collect::<Vec<_>>(),
        }))?;
        let index = json!({
            "schemaVersion": 2,
            "manifests": [typed(manifest, "application/vnd.oci.image.manifest.v1+json")],
        });
        fs::write(layout.join("index.json"), index.to_string())?;
        fs::write(
            layout.join("oci-layout"),
            json!({"imageLayoutVersion": "1.0.0"}).to_string(),
        )?;
        let from = format!("oci:{}", layout.display());
        let to = format!("docker://{}", self.name(tag));
        timed(Command::new("skopeo").args(["copy", "--insecure-policy", "--dest-tls-verify=false", &from, &to]))?;
        Ok(())
    }
}
