-- Whom to talk to about a site or a device, sealed.

SET lock_timeout = '5s';

ALTER TABLE sites ADD COLUMN contact jsonb;
ALTER TABLE devices ADD COLUMN contact jsonb;

COMMENT ON COLUMN sites.contact IS 'Whom to talk to: name, email, phone and note, each a text sealed:v1:<key id>:<base64url> that only the customer''s key opens (wanwright reveal); null when nobody is named. Once the key is erased nobody can read it any more.';
COMMENT ON COLUMN devices.contact IS 'Whom to talk to: name, email, phone and note, each a text sealed:v1:<key id>:<base64url> that only the customer''s key opens (wanwright reveal); null when nobody is named. Once the key is erased nobody can read it any more.';
