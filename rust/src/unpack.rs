//! The bytes of a file, unpacked where they are compressed (lewis_data.h).

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};

pub const MOST_RATIO: u64 = 1000;
pub const MOST_BESIDE: u64 = 256 << 20;

/// What a file of so many bytes may become.
pub fn most_of(size: u64) -> u64 {
    size.saturating_mul(MOST_RATIO).saturating_add(MOST_BESIDE)
}

pub fn too_much(size: u64) -> String {
    format!(
        "its {size} bytes unpack to more than {} MB, far more than those of a text do",
        most_of(size) / 1_000_000
    )
}

pub struct Bytes {
    reader: Box<dyn Read + Send>,
    size: u64,
    left: u64,
}

impl Bytes {
    pub fn open(path: &str) -> io::Result<Bytes> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        let mut magic = [0; 4];
        let mut got = 0;
        while got < magic.len() {
            match file.read(&mut magic[got..])? {
                0 => break,
                n => got += n,
            }
        }
        file.rewind()?;
        let input = BufReader::with_capacity(1 << 17, file);
        let reader: Box<dyn Read + Send> = match magic {
            [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
            [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::Decoder::with_buffer(input)?),
            _ => return Ok(Bytes { reader: Box::new(input), size, left: u64::MAX }),
        };
        Ok(Bytes { reader, size, left: most_of(size) })
    }
}

impl Read for Bytes {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let got = self.reader.read(out)?;
        self.left = self
            .left
            .checked_sub(got as u64)
            .ok_or_else(|| io::Error::other(too_much(self.size)))?;
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn read_back(name: &str, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let path = std::env::temp_dir().join(format!("lewis-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes)?;
        let mut all = Vec::new();
        let result =
            Bytes::open(path.to_str().unwrap()).and_then(|mut b| b.read_to_end(&mut all));
        std::fs::remove_file(&path)?;
        result.map(|_| all)
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(text).unwrap();
        packer.finish().unwrap()
    }

    #[test]
    fn packed_bytes_come_back() {
        let text = b"one\ntwo\n".repeat(1000);
        assert_eq!(read_back("plain", &text).unwrap(), text);
        assert_eq!(read_back("gz", &gzip(&text)).unwrap(), text);
        let zstd = zstd::encode_all(&text[..], 3).unwrap();
        assert_eq!(read_back("zst", &zstd).unwrap(), text);
        let twice = [text.clone(), text.clone()].concat();
        assert_eq!(read_back("gz2", &gzip(&text).repeat(2)).unwrap(), twice);
        assert_eq!(read_back("zst2", &zstd.repeat(2)).unwrap(), twice);
        assert_eq!(read_back("short", b"a").unwrap(), b"a");
        assert_eq!(read_back("empty", b"").unwrap(), b"");
    }

    #[test]
    fn damage_is_an_error() {
        let text = b"one\ntwo\n".repeat(1000);
        for packed in [gzip(&text), zstd::encode_all(&text[..], 3).unwrap()] {
            assert!(read_back("cut", &packed[..packed.len() - 9]).is_err());
        }
        let mut changed = gzip(&text);
        let middle = changed.len() / 2;
        changed[middle] ^= 0xff;
        assert!(read_back("changed", &changed).is_err());
    }
}
