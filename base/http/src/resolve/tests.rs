use super::*;
use crate::testing::soon;
use tokio::net::TcpListener;

/// Answers questions over UDP and TCP on one port: `big.test` is truncated over UDP, `gone.test` does not exist,
/// `alias.test` leads to `real.test`, `broken.test` fails, everything else under `test` has one address.
async fn server() -> u16 {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.expect("port");
        let port = udp.local_addr().expect("bound").port();
        let Ok(tcp) = TcpListener::bind(("127.0.0.1", port)).await else {
            continue;
        };
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((count, from)) = udp.recv_from(&mut buffer).await {
                // A forged answer comes first.
                let mut forged = answer(&buffer[..count], false);
                forged[0] ^= 0xff;
                udp.send_to(&forged, from).await.expect("sent");
                udp.send_to(&answer(&buffer[..count], true), from).await.expect("sent");
            }
        });
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                let mut question = vec![0; usize::from(stream.read_u16().await.expect("length"))];
                stream.read_exact(&mut question).await.expect("question");
                let reply = answer(&question, false);
                stream.write_u16(reply.len() as u16).await.expect("sent");
                stream.write_all(&reply).await.expect("sent");
            }
        });
        return port;
    }
}

fn answer(question: &[u8], udp: bool) -> Vec<u8> {
    let end = 12 + question[12..].iter().position(|byte| *byte == 0).expect("name") + 1;
    let first = String::from_utf8_lossy(&question[13..13 + usize::from(question[12])]).into_owned();
    let under_test = question[..end].ends_with(b"\x04test\0");
    let kind = question[end + 1];
    let mut reply = question[..end + 4].to_vec();
    let code = match first.as_str() {
        "broken" => 2,
        "gone" => 3,
        _ if !under_test => 3,
        _ => 0,
    };
    let truncated = udp && first == "big";
    reply[2] = 0x81 | if truncated { 2 } else { 0 };
    reply[3] = 0x80 | code;
    reply[10..12].copy_from_slice(&[0, 0]);
    if code != 0 || truncated || kind == 28 && first != "six" {
        return reply;
    }
    let mut answers = 1;
    let mut owner = vec![0xc0, 12];
    if first == "alias" {
        reply.extend_from_slice(&[0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 11, 4, b'r', b'e', b'a', b'l', 4]);
        reply.extend_from_slice(b"test\0");
        owner = b"\x04real\x04test\0".to_vec();
        answers = 2;
    }
    reply.extend_from_slice(&owner);
    if kind == 28 {
        reply.extend_from_slice(&[0, 28, 0, 1, 0, 0, 0, 9, 0, 16]);
        reply.extend_from_slice(&Ipv6Addr::LOCALHOST.octets());
    } else {
        reply.extend_from_slice(&[0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 10, 0, 0, first.len() as u8]);
    }
    reply[7] = answers;
    reply
}

struct Fixture {
    directory: PathBuf,
    resolver: Resolver,
}

impl Fixture {
    async fn new(configuration: &str) -> Self {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("strata-resolve-{}-{number}", std::process::id()));
        std::fs::create_dir(&directory).expect("directory");
        let (hosts, conf) = (directory.join("hosts"), directory.join("resolv.conf"));
        std::fs::write(
            &hosts,
            "# names\n10.9.9.9 printer Printer.lan # here\n::1 printer\nbad line\n",
        )
        .expect("written");
        std::fs::write(&conf, configuration).expect("written");
        Self {
            directory,
            resolver: Resolver {
                hosts,
                configuration: conf,
                port: server().await,
            },
        }
    }

    async fn ask(&self, host: &str) -> Result<String, String> {
        let addresses = soon(self.resolver.resolve(host, 7))
            .await
            .map_err(|error| error.to_string())?;
        Ok(addresses
            .iter()
            .map(SocketAddr::to_string)
            .collect::<Vec<_>>()
            .join(" "))
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.directory).expect("removed");
    }
}

#[tokio::test]
async fn names_are_found_where_they_should_be() {
    let fixture = Fixture::new("nameserver 127.0.0.1\nsearch none.example test\noptions timeout:1 attempts:1\n").await;
    for (host, wanted) in [
        ("10.1.2.3", "10.1.2.3:7"),
        ("[::1]", "[::1]:7"),
        ("localhost", "127.0.0.1:7 [::1]:7"),
        ("x.LOCALHOST", "127.0.0.1:7 [::1]:7"),
        ("PRINTER", "10.9.9.9:7 [::1]:7"),
        ("printer.lan", "10.9.9.9:7"),
        ("name.test", "10.0.0.4:7"),
        ("name.test.", "10.0.0.4:7"),
        ("short", "10.0.0.5:7"),
        ("alias.test", "10.0.0.5:7"),
        ("big.test", "10.0.0.3:7"),
        ("six.test", "10.0.0.3:7 [::1]:7"),
    ] {
        assert_eq!(fixture.ask(host).await.as_deref(), Ok(wanted), "{host}");
    }
    assert!(
        fixture
            .ask("gone.test")
            .await
            .expect_err("gone")
            .contains("no such host")
    );
    assert!(
        fixture
            .ask("broken.test")
            .await
            .expect_err("broken")
            .contains("the server failed")
    );
    for bad in ["", "a..b", &"x".repeat(64), &"abcdefgh.".repeat(40)] {
        assert!(fixture.ask(bad).await.is_err(), "{bad}");
    }
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    // A port that is bound and never read.
    let silent = UdpSocket::bind("127.0.0.1:0").await.expect("port");
    let mut fixture = Fixture::new("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n").await;
    fixture.resolver.port = silent.local_addr().expect("bound").port();
    assert!(fixture.ask("a.test").await.expect_err("silent").contains("no answer"));
}

#[test]
fn damaged_answers_are_errors_and_foreign_ones_ignored() {
    let question = Question::new("a.test", message::A).expect("question");
    let good = answer(question.bytes(), false);
    assert_eq!(
        question.read(&good).expect("valid"),
        Some(Reply::Addresses(vec![[10, 0, 0, 1].into()]))
    );
    for cut in 0..good.len() {
        assert!(!matches!(question.read(&good[..cut]), Ok(Some(_))), "{cut}");
    }
    let mut circle = good.clone();
    let at = question.bytes().len() - 11;
    circle[at..at + 2].copy_from_slice(&[0xc0, at as u8]);
    assert!(question.read(&circle).is_err());
    let other = Question::new("b.test", message::A).expect("question");
    let mut foreign = answer(other.bytes(), false);
    foreign[..2].copy_from_slice(&good[..2]);
    assert_eq!(question.read(&foreign).expect("readable"), None);
}
