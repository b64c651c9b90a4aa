//! Claims as the server reads them: two parts in base64url and an Ed25519 signature over both.

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use nkeys::KeyPair;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::AccountError;

/// Signs claims: adds who signs and an id.
///
/// # Errors
/// [`AccountError::Malformed`] when the key cannot sign.
pub fn encode(mut claims: Value, signer: &KeyPair) -> Result<String, AccountError> {
    claims["iss"] = json!(signer.public_key());
    claims["jti"] = json!(BASE32_NOPAD.encode(&Sha256::digest(claims.to_string())));
    let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let encoded = [header, claims].map(|part| BASE64URL_NOPAD.encode(part.to_string().as_bytes()));
    let signed = encoded.join(".");
    let signature = signer
        .sign(signed.as_bytes())
        .map_err(|error| AccountError::malformed(format!("a key cannot sign: {error}")))?;
    Ok(format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature)))
}

/// Reads claims without checking who signed them: the server checks, this is to show and to compare.
///
/// # Errors
/// [`AccountError::Malformed`] when the text is no claim.
pub fn decode(token: &str) -> Result<Value, AccountError> {
    let malformed = || AccountError::malformed("a token does not have the three parts of a signed claim");
    let [_, claims, _] = token.trim().split('.').collect::<Vec<_>>()[..] else { return Err(malformed()) };
    let bytes = BASE64URL_NOPAD.decode(claims.as_bytes()).map_err(|_| malformed())?;
    serde_json::from_slice(&bytes).map_err(|_| malformed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_reads_the_same_and_verifies() {
        let key = KeyPair::new_account();
        let token = encode(json!({ "sub": "U", "name": "anna" }), &key).expect("a token");
        let claims = decode(&token).expect("claims");
        assert_eq!(
            (claims["name"].as_str(), claims["iss"].as_str()),
            (Some("anna"), Some(key.public_key().as_str()))
        );
        let (signed, signature) = token.rsplit_once('.').expect("a signature");
        let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).expect("base64url");
        key.verify(signed.as_bytes(), &signature).expect("a good signature");
        assert!(decode("no.token").is_err());
    }
}
