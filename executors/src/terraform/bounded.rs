//! Files that Terraform wrote: never read before their size is known, nor further than that.

use std::io;
use std::path::Path;

use tokio::fs;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

/// The bytes of a plain file. `what` it is begins the sentence that says why it is not read.
///
/// # Errors
/// It is larger than `most` bytes, it is something else than a file, a link among that, or it cannot be read.
pub(super) async fn read(file: &Path, most: u64, what: &str) -> io::Result<Vec<u8>> {
    let large = |bytes: u64| {
        let message = format!("{what} of {bytes} bytes is larger than {most}");
        io::Error::new(io::ErrorKind::FileTooLarge, message)
    };
    let metadata = fs::symlink_metadata(file).await?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{what} is no plain file")));
    }
    if metadata.len() > most {
        return Err(large(metadata.len()));
    }
    let mut bytes = Vec::new();
    fs::File::open(file).await?.take(most + 1).read_to_end(&mut bytes).await?;
    if bytes.len() as u64 > most {
        return Err(large(bytes.len() as u64));
    }
    Ok(bytes)
}

/// The file that has what a command says on standard error, in the folder of its run.
pub(super) const LAST_WORDS: &str = "stderr.log";

/// The most that is told of it, in bytes.
const MOST_WORDS: u64 = 2048;

/// The end of what a command said on standard error; empty where it said nothing, or the file is no plain one.
pub(super) async fn last_words(file: &Path) -> String {
    let end = async {
        let length = fs::symlink_metadata(file).await.ok().filter(std::fs::Metadata::is_file)?.len();
        let mut file = fs::File::open(file).await.ok()?;
        file.seek(io::SeekFrom::Start(length.saturating_sub(MOST_WORDS))).await.ok()?;
        let mut bytes = Vec::new();
        file.take(MOST_WORDS).read_to_end(&mut bytes).await.ok()?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    };
    end.await.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_what_a_command_said_the_end_is_told() {
        let dir = tempfile::tempdir().expect("a folder");
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        assert_eq!(last_words(&file).await, "");
        std::fs::write(&file, format!("{}panic: \u{fc}\n", "x".repeat(1 << 20))).expect("a file");
        let words = last_words(&file).await;
        assert!(words.len() <= 2048 && words.ends_with("xpanic: \u{fc}"), "{words}");
        // Terraform may change its folder, and must not have another file told of.
        std::os::unix::fs::symlink(&file, &link).expect("a link");
        assert_eq!(last_words(&link).await, "");
    }

    #[tokio::test]
    async fn what_is_too_large_or_no_file_is_not_read() {
        let dir = tempfile::tempdir().expect("a folder");
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        // A terabyte without room on the disk, nor in the memory.
        std::fs::File::create(&file).and_then(|file| file.set_len(1 << 40)).expect("a file");
        let error = read(&file, 10, "a plan").await.expect_err("too large").to_string();
        assert_eq!(error, "a plan of 1099511627776 bytes is larger than 10");
        std::fs::write(&file, "0123456789").expect("a file");
        assert_eq!(read(&file, 10, "a plan").await.expect("read"), b"0123456789");
        assert!(read(&file, 9, "a plan").await.is_err());
        std::os::unix::fs::symlink(&file, &link).expect("a link");
        for other in [&link, Path::new("/dev/zero"), dir.path()] {
            let error = read(other, 10, "a plan").await.expect_err("no file").to_string();
            assert_eq!(error, "a plan is no plain file");
        }
        assert_eq!(
            read(&dir.path().join("x"), 1, "").await.expect_err("none").kind(),
            io::ErrorKind::NotFound
        );
    }
}
