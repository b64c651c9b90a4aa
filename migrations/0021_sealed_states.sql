-- Terraform's states are sealed; each version says with which key.

SET lock_timeout = '5s';

ALTER TABLE terraform.states ADD COLUMN sealed_with text;
COMMENT ON COLUMN terraform.states.sealed_with IS 'The id of the key in the state key file that seals the body. Null: written before states were sealed; `wanwright state seal` seals it.';
COMMENT ON COLUMN terraform.states.body IS 'The state as Terraform wrote it, compressed and sealed (AES-256-GCM) as this version of this stack.';
