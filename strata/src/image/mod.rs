//! Images on this machine, with docker's commands, flags and output.

pub mod cli;
mod listing;
mod login;
mod progress;
mod said;

use crate::failure::{During, Outcome, fail};
use crate::worker;
use cli::{ImageArgs, ImageCommand, LoginArgs, PullArgs, PushArgs, SaveFormat};
use std::fs::File;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use strata_image::{
    ArchiveFormat, CredentialStore, Credentials, Image, ImageError, ImageFilters, ImageOptions, ImageStore,
    ImportOptions, Platform, PullOptions, PushOptions, Reference, Removed,
};

pub use login::{log_in, log_out};

/// Carries the command out; what fails is told as docker's client tells it.
pub async fn carry_out(args: ImageArgs) -> ExitCode {
    match run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{}", failure.0);
            ExitCode::FAILURE
        }
    }
}

async fn run(args: ImageArgs) -> Outcome {
    if let ImageCommand::Login(login) = &args.command {
        let options = worker::image_options(&args.node.data_dir, &args.registry_hosts);
        return log_in(&options, login).await;
    }
    let images = open(&args.node.data_dir, &args.registry_hosts)?;
    match args.command {
        ImageCommand::Pull(args) => pull(&images, args).await,
        ImageCommand::Push(args) => push(&images, args).await,
        ImageCommand::Load { archive, input, quiet } => load(&images, archive.or(input), quiet).await,
        ImageCommand::Save {
            images: names,
            output,
            format,
        } => save(&images, &names, output.as_deref(), format).await,
        ImageCommand::Import {
            source,
            name,
            change,
            message,
            platform,
        } => {
            let options = ImportOptions {
                reference: name,
                changes: change,
                message,
                platform: platform.as_deref().map(parse_platform).transpose()?,
            };
            import(&images, &source, &options)
        }
        ImageCommand::Tag { source, target } => {
            said::new_name(&target)?;
            said::of(images.tag(&source, &target), &source)
        }
        ImageCommand::Ls(args) => listing::ls(&images, &args),
        ImageCommand::Inspect { images: names, format } => listing::inspect(&images, &names, &format),
        ImageCommand::History {
            image,
            format,
            human,
            no_trunc,
            quiet,
        } => listing::history(
            &images,
            &image,
            &listing::Style {
                format,
                human,
                no_trunc,
                quiet,
            },
        ),
        ImageCommand::Rm { images: names, force } => remove(&images, &names, force),
        ImageCommand::Prune { all, force, filter } => prune(&images, all, force, &filter),
        // Needs no store; done above.
        ImageCommand::Login(_) => Ok(()),
        ImageCommand::Logout { server } => log_out(server.as_deref()).await,
    }
}

/// The store with the policies of a person's commands: what was fetched can be passed on.
pub fn open(data_dir: &Path, registry_hosts: &Path) -> Outcome<ImageStore> {
    let options = ImageOptions {
        keep_blobs: true,
        allow_devices: true,
        ..worker::image_options(data_dir, registry_hosts)
    };
    ImageStore::open(options).during("opening the image store")
}

/// Logs in without images: only registries' settings are needed.
pub async fn log_in_only(args: &LoginArgs) -> Outcome {
    let hosts = std::env::var(crate::cli::REGISTRY_HOSTS).unwrap_or_else(|_| "/etc/strata/certs.d".into());
    log_in(&worker::image_options(Path::new(""), Path::new(&hosts)), args).await
}

/// The logins of the user who runs this.
pub fn logins() -> CredentialStore {
    CredentialStore::from_variables(|name| std::env::var(name).ok())
}

/// `os[/architecture[/variant]]`.
fn parse_platform(text: &str) -> Outcome<Platform> {
    text.parse().map_err(crate::failure::Failure)
}

async fn known_login(reference: &Reference) -> Outcome<Option<Credentials>> {
    logins().get(&reference.name()).await.during("looking for a login")
}

async fn pull(images: &ImageStore, args: PullArgs) -> Outcome {
    let reference: Reference = args.image.parse().during("pulling")?;
    let given = args.username.map(|username| Credentials {
        username,
        password: args.password.unwrap_or_default(),
        token: String::new(),
    });
    let credentials = match given {
        Some(given) => Some(given),
        None => known_login(&reference).await?,
    };
    let platform = args.platform.as_deref().map(parse_platform).transpose()?;
    let bare = !args.image.contains('@') && !args.image.rsplit('/').next().is_some_and(|last| last.contains(':'));
    let tags = match args.all_tags {
        true if !bare => return fail("tag can't be used with --all-tags/-a"),
        true => {
            let tags = images.remote_tags(&args.image, credentials.clone()).await;
            tags.during("listing tags")?
        }
        false => Vec::new(),
    };
    let mut names: Vec<String> = tags.iter().map(|tag| format!("{}:{tag}", reference.name())).collect();
    if !args.all_tags {
        if bare && !args.quiet {
            println!("Using default tag: latest");
        }
        names.push(args.image.clone());
    }
    for name in names {
        let bars = progress::Bars::new(args.quiet, "Pull complete");
        let before = images.resolve(&name).during("pulling")?.map(|image| image.id);
        let options = PullOptions {
            credentials: credentials.clone(),
            progress: Some(bars.sender()),
            platform: platform.clone(),
            all_platforms: args.all_platforms,
        };
        let pulled = images.pull_with(&name, options).await;
        bars.finish().await;
        let image = pulled.during("pulling")?;
        report_pull(&name, &image, before == Some(image.id), args.quiet)?;
    }
    Ok(())
}

fn report_pull(name: &str, image: &Image, same: bool, quiet: bool) -> Outcome {
    let reference: Reference = name.parse().during("pulling")?;
    if quiet {
        println!("{reference}");
        return Ok(());
    }
    let digest = image
        .repo_digests
        .iter()
        .find(|known| known.starts_with(&format!("{}@", reference.name())))
        .and_then(|known| known.split_once('@'));
    if let Some((_, digest)) = digest {
        println!("Digest: {digest}");
    }
    let what = match same {
        true => "Image is up to date for",
        false => "Downloaded newer image for",
    };
    println!("Status: {what} {}", reference.familiar());
    println!("{reference}");
    Ok(())
}

async fn push(images: &ImageStore, args: PushArgs) -> Outcome {
    let reference: Reference = args.image.parse().during("pushing")?;
    let mut names = vec![reference.to_string()];
    if args.all_tags {
        let start = format!("{}:", reference.name());
        let all = images.list().during("listing images")?;
        names = all
            .into_iter()
            .flat_map(|image| image.repo_tags)
            .filter(|tag| tag.starts_with(&start))
            .collect();
    }
    if names.is_empty() {
        return fail(format!(
            "An image does not exist locally with the tag: {}",
            reference.name()
        ));
    }
    let credentials = known_login(&reference).await?;
    if !args.quiet {
        println!("The push refers to repository [{}]", reference.name());
    }
    for name in names {
        let bars = progress::Bars::new(args.quiet, "Pushed");
        let options = PushOptions {
            credentials: credentials.clone(),
            source_credentials: None,
            progress: Some(bars.sender()),
        };
        let pushed = images.push(&name, options).await;
        bars.finish().await;
        let pushed = pushed.during("pushing")?;
        let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
        match args.quiet {
            true => println!("{name}"),
            false => println!("{tag}: digest: {} size: {}", pushed.digest, pushed.size),
        }
        if let Some(note) = pushed.note {
            eprintln!("note: {note}");
        }
    }
    Ok(())
}

async fn load(images: &ImageStore, archive: Option<PathBuf>, quiet: bool) -> Outcome {
    let loaded = match archive.filter(|path| path != Path::new("-")) {
        Some(path) => images.load(&path).await.during("loading")?,
        None if io::stdin().is_terminal() => {
            return fail("requested load from stdin, but stdin is empty");
        }
        None => images.load_from(io::stdin().lock()).during("loading")?,
    };
    for image in loaded.iter().filter(|_| !quiet) {
        for tag in &image.repo_tags {
            println!("Loaded image: {}", short(tag));
        }
        if image.repo_tags.is_empty() {
            println!("Loaded image ID: {}", image.id);
        }
    }
    Ok(())
}

async fn save(images: &ImageStore, names: &[String], output: Option<&Path>, format: SaveFormat) -> Outcome {
    let format = match format {
        SaveFormat::DockerArchive => ArchiveFormat::Docker,
        SaveFormat::OciArchive => ArchiveFormat::Oci,
    };
    for name in names {
        let there = said::of(images.resolve(name), name)?.is_some();
        let tagged = name.rsplit('/').next().is_some_and(|last| last.contains(':'));
        match (there, tagged) {
            (true, _) => {}
            (false, true) => return Err(said::answered("reference does not exist")),
            (false, false) => return Err(said::answered(format!("No such image: {name}"))),
        }
    }
    let logins = logins();
    let notes = match output {
        None if io::stdout().is_terminal() => {
            return fail("cowardly refusing to save to a terminal. Use the -o flag or redirect");
        }
        None => images.save(names, format, Some(&logins), io::stdout()).await,
        Some(path) => {
            // Not at the name itself: what is there stays until the new one is whole.
            let draft = path.with_file_name(format!(
                ".{}.{}",
                path.file_name().unwrap_or_default().to_string_lossy(),
                std::process::id()
            ));
            let file = File::create(&draft).during(format!("creating {}", draft.display()))?;
            let saved = images
                .save(names, format, Some(&logins), io::BufWriter::new(file))
                .await;
            if saved.is_err() {
                // The error says what matters; a draft that cannot be removed does not.
                let _ = std::fs::remove_file(&draft);
            } else {
                std::fs::rename(&draft, path).during(format!("writing {}", path.display()))?;
            }
            saved
        }
    };
    for note in notes.during("saving")? {
        eprintln!("note: {note}");
    }
    Ok(())
}

fn import(images: &ImageStore, source: &Path, options: &ImportOptions) -> Outcome {
    let image = if source == Path::new("-") {
        images.import(io::stdin(), options)
    } else {
        let file = File::open(source).during(format!("opening {}", source.display()))?;
        images.import(file, options)
    };
    println!("{}", image.during("importing")?.id);
    Ok(())
}

fn remove(images: &ImageStore, names: &[String], force: bool) -> Outcome {
    let mut failed = Vec::new();
    for name in names {
        match images.remove_with(name, force) {
            Ok(removed) => print_removed(&removed),
            // As docker: with force, what is gone already is fine, and said.
            Err(error) if force && error.is_not_found() => eprintln!("Error: No such image: {name}"),
            Err(error) => {
                let error = match (error, said::of(images.resolve(name), name)?) {
                    (ImageError::InUse { owner, .. }, Some(image)) => ImageError::InUse {
                        image: image.id.short(),
                        owner,
                    },
                    (error, _) => error,
                };
                failed.extend(said::of(Err::<(), _>(error), name).err().map(|failure| failure.0));
            }
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        fail(failed.join("\n"))
    }
}

fn prune(images: &ImageStore, all: bool, force: bool, filter: &[String]) -> Outcome {
    let filters = said::of(ImageFilters::parse(filter), "")?;
    if !force && io::stdin().is_terminal() {
        let what = match all {
            true => "all images without at least one container associated to them",
            false => "all dangling images",
        };
        print!("WARNING! This will remove {what}.\nAre you sure you want to continue? [y/N] ");
        io::stdout().flush().during("asking")?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer).during("asking")?;
        if !answer.trim().eq_ignore_ascii_case("y") {
            return Ok(());
        }
    }
    let removed = images.prune_with(all, &filters).during("pruning")?;
    if !removed.untagged.is_empty() || !removed.deleted.is_empty() {
        println!("Deleted Images:");
        print_removed(&removed);
        println!();
    }
    println!("Total reclaimed space: {}", listing::size(removed.freed));
    Ok(())
}

fn short(name: &str) -> String {
    name.parse::<Reference>()
        .map_or_else(|_| name.to_owned(), |r| r.familiar())
}

fn print_removed(removed: &Removed) {
    for name in &removed.untagged {
        println!("Untagged: {}", short(name));
    }
    for id in &removed.deleted {
        println!("Deleted: {id}");
    }
}
