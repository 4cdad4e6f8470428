//! Who a process runs as: names looked up in the container's own files, never through the C library.

use crate::error::{Error, Result};
use crate::spec::User;
use alloc::{format, string::String, vec, vec::Vec};
use rustix::fs::{FileType, Mode, OFlags};
use strata_sys::{Errno, file};

/// Longest passwd or group file that is read.
const FILE_LIMIT: usize = 4 << 20;

/// A user as the kernel sees it, and the home that programs expect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
}

/// Resolves a user; to be called with the container's root as root directory.
pub(crate) fn resolve(user: &User) -> Result<Identity> {
    let passwd = read("/etc/passwd")?;
    let group = read("/etc/group")?;
    let identity = look_up(user, &passwd, &group)?;
    check(&identity)?;
    Ok(identity)
}

/// Errors: a number that is no id. The kernel takes the last one for "as it is", which is root.
fn check(identity: &Identity) -> Result<()> {
    let mut ids = [identity.uid, identity.gid]
        .into_iter()
        .chain(identity.groups.iter().copied());
    if ids.all(|id| id <= i32::MAX as u32) {
        return Ok(());
    }
    Err(Error::Command("uids and gids must be in range 0-2147483647".into()))
}

/// The content of one of the container's files; a missing one is empty, and what is no regular file is not read.
fn read(path: &str) -> Result<String> {
    let system = |errno| Error::System {
        what: format!("read {path}"),
        errno,
    };
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(String::new()),
        Err(errno) => return Err(system(errno)),
    };
    let stat = rustix::fs::fstat(&file).map_err(system)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(String::new());
    }
    let content = file::read_all(&file, FILE_LIMIT).map_err(system)?;
    Ok(String::from_utf8_lossy(&content).into_owned())
}

/// passwd(5): `name:password:uid:gid:gecos:home:shell`.
struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        Some(Account {
            name: fields.first()?,
            uid: fields.get(2)?.parse().ok()?,
            gid: fields.get(3)?.parse().ok()?,
            home: fields.get(5).copied().unwrap_or(""),
        })
    })
}

/// group(5): `name:password:gid:members`.
fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _, gid) = (fields.next()?, fields.next()?, fields.next()?.parse().ok()?);
        Some((name, gid, fields.next().unwrap_or("")))
    })
}

fn look_up(user: &User, passwd: &str, group: &str) -> Result<Identity> {
    if user.username.is_empty() {
        let home = accounts(passwd)
            .find(|account| account.uid == user.uid)
            .map_or("/", |account| account.home);
        let groups = user.additional_gids.clone();
        return Ok(Identity {
            uid: user.uid,
            gid: user.gid,
            groups,
            home: home.into(),
        });
    }
    let (name, wanted_group) = match user.username.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (&*user.username, None),
    };
    // A number is never a name: the image, whose files these are, could call its root 1000.
    let number = name.parse::<u32>().ok();
    let account = accounts(passwd).find(|account| match number {
        Some(uid) => account.uid == uid,
        None => account.name == name,
    });
    let uid = match (&account, number) {
        (Some(account), _) => account.uid,
        (None, Some(uid)) => uid,
        (None, None) if name.is_empty() => 0,
        (None, None) => {
            return Err(Error::Command(format!(
                "unable to find user {name}: no matching entries in passwd file"
            )));
        }
    };
    let gid = match wanted_group.filter(|group| !group.is_empty()) {
        None => account.as_ref().map_or(0, |account| account.gid),
        Some(wanted) => match (wanted.parse(), groups(group).find(|entry| entry.0 == wanted)) {
            (Ok(gid), _) => gid,
            (Err(_), Some(entry)) => entry.1,
            (Err(_), None) => {
                let text = format!("unable to find group {wanted}: no matching entries in group file");
                return Err(Error::Command(text));
            }
        },
    };
    // The primary group is one of the others too, so that giving it up gains nothing.
    let mut list = vec![gid];
    for more in &user.additional_gids {
        if !list.contains(more) {
            list.push(*more);
        }
    }
    if let Some(account) = &account
        && !user.strict_groups
        && (wanted_group.is_none() || user.merge_groups)
    {
        for (_, gid, members) in groups(group) {
            if members.split(',').any(|member| member.trim() == account.name) && !list.contains(&gid) {
                list.push(gid);
            }
        }
    }
    let home = account.map_or("/", |account| account.home);
    Ok(Identity {
        uid,
        gid,
        groups: list,
        home: home.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/var/www:/bin/false\nbad line\n7:x:1007:1008::/h:\n";
    const GROUP: &str = "root:x:0:\nweb:x:34:\nlogs:x:40:other,web\nnum:x:41:7\n7:x:0:\n";

    fn user(username: &str) -> User {
        User {
            username: username.into(),
            additional_gids: vec![9],
            ..User::default()
        }
    }

    #[test]
    fn users_and_groups_are_found_by_name_and_by_number() {
        let table: [(&str, u32, u32, &[u32]); 10] = [
            ("web", 33, 34, &[34, 9, 40]),
            ("33", 33, 34, &[34, 9, 40]),
            ("web:root", 33, 0, &[0, 9]),
            ("web:77", 33, 77, &[77, 9]),
            ("4000", 4000, 0, &[0, 9]),
            ("4000:logs", 4000, 40, &[40, 9]),
            // A name made of digits is a number.
            ("7", 7, 0, &[0, 9]),
            ("4000:7", 4000, 7, &[7, 9]),
            ("1007", 1007, 1008, &[1008, 9, 41]),
            (":logs", 0, 40, &[40, 9]),
        ];
        for (name, uid, gid, groups) in table {
            let found = look_up(&user(name), PASSWD, GROUP).unwrap();
            assert_eq!((found.uid, found.gid, &*found.groups), (uid, gid, groups), "{name}");
        }
    }

    #[test]
    fn unknown_names_are_errors_that_name_them() {
        let error = look_up(&user("nobody"), PASSWD, GROUP).unwrap_err();
        assert!(std::format!("{error}").contains("unable to find user nobody"));
        assert!(look_up(&user("web:nogroup"), PASSWD, GROUP).is_err());
    }

    #[test]
    fn numbers_that_are_no_ids_are_refused_wherever_they_come_from() {
        let passwd = "last:x:4294967295:0::/:\nlate:x:1:4294967295::/:\n";
        for name in ["4294967295", "2147483648", "1:4294967295", "last", "late"] {
            assert!(check(&look_up(&user(name), passwd, "").unwrap()).is_err(), "{name}");
        }
        for name in ["4294967296", "-1", "1:-1"] {
            assert!(look_up(&user(name), passwd, "").is_err(), "{name}");
        }
        assert!(check(&look_up(&user("2147483647"), passwd, "").unwrap()).is_ok());
    }

    #[test]
    fn groups_are_merged_on_request() {
        let merged = User {
            merge_groups: true,
            ..user("33:500")
        };
        assert_eq!(look_up(&merged, PASSWD, GROUP).unwrap().groups, vec![500, 9, 40]);
        let strict = User {
            strict_groups: true,
            ..user("web")
        };
        assert_eq!(look_up(&strict, PASSWD, GROUP).unwrap().groups, vec![34, 9]);
    }
}
