//! What host and plugin tell each other before they are connected.

use std::fmt;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use rustls::pki_types::CertificateDer;
use thiserror::Error;

use super::tls::Identity;

/// The variable that tells a provider that Terraform starts it.
pub const COOKIE_NAME: &str = "TF_PLUGIN_MAGIC_COOKIE";

/// What it holds. No secret: it keeps people from starting a plugin by hand.
pub const COOKIE_VALUE: &str = "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2";

/// The plugin protocol that is spoken here.
pub const PROTOCOL: u32 = 6;

/// The version of the handshake itself.
const CORE: &str = "1";

/// What a host gives a plugin: cookie, protocols and its own certificate.
#[must_use]
pub fn client_env(identity: &Identity) -> [(&'static str, String); 5] {
    [
        (COOKIE_NAME, COOKIE_VALUE.to_owned()),
        ("PLUGIN_PROTOCOL_VERSIONS", PROTOCOL.to_string()),
        ("PLUGIN_MIN_PORT", "0".to_owned()),
        ("PLUGIN_MAX_PORT", "0".to_owned()),
        ("PLUGIN_CLIENT_CERT", identity.pem().to_owned()),
    ]
}

/// The line with which a plugin answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The plugin protocol it has chosen.
    pub protocol: u32,
    /// The Unix socket it listens on.
    pub socket: PathBuf,
    /// Its certificate; without one it speaks plaintext.
    pub certificate: Option<CertificateDer<'static>>,
}

/// A line that is no answer.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandshakeError {
    /// It has not the form of one.
    #[error("the program did not answer as a Terraform provider does")]
    Form,
    /// Another version of the handshake.
    #[error("the provider speaks version {0} of the handshake, not {CORE}")]
    Core(String),
    /// Another plugin protocol.
    #[error("the provider speaks plugin protocol {0}, not {PROTOCOL}")]
    Protocol(String),
    /// It listens elsewhere than on a Unix socket.
    #[error("the provider listens on {0}, not on a Unix socket")]
    Network(String),
    /// It does not speak gRPC.
    #[error("the provider speaks {0}, not grpc")]
    Wire(String),
}

impl Handshake {
    /// Reads the line.
    ///
    /// # Errors
    /// [`HandshakeError`].
    pub fn parse(line: &str) -> Result<Self, HandshakeError> {
        let parts: Vec<&str> = line.trim().split('|').collect();
        let [core, protocol, network, address, wire, rest @ ..] = parts.as_slice() else {
            return Err(HandshakeError::Form);
        };
        if *core != CORE {
            return Err(HandshakeError::Core((*core).to_owned()));
        }
        if *protocol != PROTOCOL.to_string() {
            return Err(HandshakeError::Protocol((*protocol).to_owned()));
        }
        if *network != "unix" {
            return Err(HandshakeError::Network((*network).to_owned()));
        }
        if *wire != "grpc" {
            return Err(HandshakeError::Wire((*wire).to_owned()));
        }
        let certificate = match rest.first() {
            Some(text) if !text.is_empty() => {
                let der = STANDARD_NO_PAD.decode(text.trim_end_matches('='));
                Some(CertificateDer::from(der.map_err(|_| HandshakeError::Form)?))
            }
            _ => None,
        };
        Ok(Self { protocol: PROTOCOL, socket: PathBuf::from(address), certificate })
    }
}

impl fmt::Display for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let certificate = self.certificate.as_ref().map(|der| STANDARD_NO_PAD.encode(der));
        let certificate = certificate.unwrap_or_default();
        write!(f, "{CORE}|{}|unix|{}|grpc|{certificate}", self.protocol, self.socket.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_reads_as_it_was_written_and_another_one_is_refused_by_name() {
        let whole = Handshake {
            protocol: PROTOCOL,
            socket: "/tmp/p/plugin1".into(),
            certificate: Some(CertificateDer::from(vec![0, 1, 255, 7])),
        };
        assert_eq!(Handshake::parse(&format!("{whole}\n")), Ok(whole.clone()));
        let plain = Handshake { certificate: None, ..whole };
        assert_eq!(plain.to_string(), "1|6|unix|/tmp/p/plugin1|grpc|");
        assert_eq!(Handshake::parse("1|6|unix|/tmp/p/plugin1|grpc"), Ok(plain));
        let wrong = [
            ("", HandshakeError::Form),
            ("hello", HandshakeError::Form),
            ("1|6|unix|/p|grpc|!!", HandshakeError::Form),
            ("2|6|unix|/p|grpc|", HandshakeError::Core("2".to_owned())),
            ("1|5|unix|/p|grpc|", HandshakeError::Protocol("5".to_owned())),
            ("1|6|tcp|127.0.0.1:1|grpc|", HandshakeError::Network("tcp".to_owned())),
            ("1|6|unix|/p|netrpc|", HandshakeError::Wire("netrpc".to_owned())),
        ];
        for (line, error) in wrong {
            assert_eq!(Handshake::parse(line), Err(error), "{line}");
        }
    }
}
