//! Against a server of our own that cuts.

use super::*;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

/// A server of one file. It sends at most `cut` bytes a request and then ends the connection; `ranges`: it goes on where
/// it is asked to. Returns its address and the ranges it was asked for.
fn server(content: &'static [u8], cut: usize, ranges: bool) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/thing", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines: Vec<String> = BufReader::new(stream.try_clone().unwrap())
                .lines()
                .map_while(Result::ok)
                .take_while(|line| !line.is_empty())
                .collect();
            let range = lines.iter().find_map(|line| line.strip_prefix("range: bytes=").map(str::to_owned));
            let from = range.as_deref().and_then(|range| range.trim_end_matches('-').parse::<usize>().ok());
            log.lock().unwrap().push(range.unwrap_or_default());
            let from = from.filter(|_| ranges);
            let rest = &content[from.unwrap_or(0).min(content.len())..];
            let head = match from {
                Some(from) => format!(
                    "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes {from}-{}/{}\r\n",
                    content.len() - 1,
                    content.len()
                ),
                None => "HTTP/1.1 200 OK\r\n".to_owned(),
            };
            let head = format!("{head}content-length: {}\r\nconnection: close\r\n\r\n", rest.len());
            // Whoever asked may have gone.
            let _gone = stream.write_all(head.as_bytes());
            let _gone = stream.write_all(&rest[..rest.len().min(cut)]);
        }
    });
    (url, asked)
}

const CONTENT: &[u8] = &[b'x'; 100_000];

fn artifact(url: &str, sum: &str) -> ExtraArtifact {
    ExtraArtifact {
        path: "/opt/thing".to_owned(),
        name: "thing".to_owned(),
        origin: FileOrigin::Url { url: url.to_owned(), sha512: sum.to_owned() },
        executable: false,
    }
}

fn sum() -> String {
    use sha2::Digest;
    crate::service::hex(&sha2::Sha512::digest(CONTENT))
}

async fn fetched(cache: &Path, url: &str, sum: &str) -> Result<Vec<Piece>, String> {
    let _already_installed = rustls::crypto::ring::default_provider().install_default();
    let (cache, artifact) = (cache.to_owned(), artifact(url, sum));
    let fetching = tokio::task::spawn_blocking(move || fetch(&cache, &artifact, &|_, _| ()));
    fetching.await.unwrap().map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_download_that_is_cut_goes_on_where_it_ended() {
    let cache = tempfile::tempdir().unwrap();
    let (url, asked) = server(CONTENT, 40_000, true);
    let pieces = fetched(cache.path(), &url, &sum()).await.unwrap();
    assert_eq!(std::fs::read(&pieces[0].path).unwrap(), CONTENT);
    assert_eq!(*asked.lock().unwrap(), ["", "40000-", "80000-"]);
    // By content: nobody is asked again.
    fetched(cache.path(), &url, &sum()).await.unwrap();
    assert_eq!(asked.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn what_an_earlier_run_left_is_gone_on_with() {
    let cache = tempfile::tempdir().unwrap();
    let parts = cache.path().join("partial");
    std::fs::create_dir_all(&parts).unwrap();
    std::fs::write(parts.join(sum()), &CONTENT[..70_000]).unwrap();
    let (url, asked) = server(CONTENT, usize::MAX, true);
    fetched(cache.path(), &url, &sum()).await.unwrap();
    assert_eq!(*asked.lock().unwrap(), ["70000-"]);
}

#[tokio::test]
async fn a_server_without_ranges_is_read_from_the_start() {
    let cache = tempfile::tempdir().unwrap();
    let parts = cache.path().join("partial");
    std::fs::create_dir_all(&parts).unwrap();
    std::fs::write(parts.join(sum()), b"another beginning").unwrap();
    let (url, _) = server(CONTENT, usize::MAX, false);
    let pieces = fetched(cache.path(), &url, &sum()).await.unwrap();
    assert_eq!(std::fs::read(&pieces[0].path).unwrap(), CONTENT);
}

#[tokio::test]
async fn another_content_is_refused_and_not_kept() {
    let cache = tempfile::tempdir().unwrap();
    let (url, _) = server(CONTENT, usize::MAX, true);
    let other = "0".repeat(128);
    let error = fetched(cache.path(), &url, &other).await.unwrap_err();
    assert!(error.starts_with(&format!("{url} is another file than the inventory says")), "{error}");
    assert_eq!(std::fs::read_dir(cache.path().join("partial")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let cache = tempfile::tempdir().unwrap();
    let url = {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/thing", gone.local_addr().unwrap())
    };
    let error = fetched(cache.path(), &url, &sum()).await.unwrap_err();
    assert!(error.starts_with(&format!("cannot fetch {url}: ")), "{error}");
}
