-- What is wanted and what is: customers, sites, tunnels, devices. Folded from EVENTS-*.

CREATE TABLE customers (
    customer text NOT NULL,
    sites bigint NOT NULL DEFAULT 0,
    sites_healthy bigint NOT NULL DEFAULT 0,
    sites_progressing bigint NOT NULL DEFAULT 0,
    sites_degraded bigint NOT NULL DEFAULT 0,
    sites_suspended bigint NOT NULL DEFAULT 0,
    sites_missing bigint NOT NULL DEFAULT 0,
    sites_unknown bigint NOT NULL DEFAULT 0,
    sites_out_of_sync bigint NOT NULL DEFAULT 0,
    tunnels bigint NOT NULL DEFAULT 0,
    tunnels_healthy bigint NOT NULL DEFAULT 0,
    tunnels_progressing bigint NOT NULL DEFAULT 0,
    tunnels_degraded bigint NOT NULL DEFAULT 0,
    tunnels_suspended bigint NOT NULL DEFAULT 0,
    tunnels_missing bigint NOT NULL DEFAULT 0,
    tunnels_unknown bigint NOT NULL DEFAULT 0,
    tunnels_out_of_sync bigint NOT NULL DEFAULT 0,
    devices bigint NOT NULL DEFAULT 0,
    devices_healthy bigint NOT NULL DEFAULT 0,
    devices_progressing bigint NOT NULL DEFAULT 0,
    devices_degraded bigint NOT NULL DEFAULT 0,
    devices_suspended bigint NOT NULL DEFAULT 0,
    devices_missing bigint NOT NULL DEFAULT 0,
    devices_unknown bigint NOT NULL DEFAULT 0,
    devices_out_of_sync bigint NOT NULL DEFAULT 0,
    messages bigint NOT NULL,
    chain_head text NOT NULL,
    last_actor text NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    stream text NOT NULL,
    sequence bigint NOT NULL,
    PRIMARY KEY (customer)
);
COMMENT ON TABLE customers IS 'The customers that have a history, with maintained counts: one row each, folded from EVENTS.';
COMMENT ON COLUMN customers.customer IS 'The customer.';
COMMENT ON COLUMN customers.sites IS 'How many sites the customer has.';
COMMENT ON COLUMN customers.sites_healthy IS 'How many of them are Healthy.';
COMMENT ON COLUMN customers.sites_progressing IS 'How many of them are Progressing.';
COMMENT ON COLUMN customers.sites_degraded IS 'How many of them are Degraded.';
COMMENT ON COLUMN customers.sites_suspended IS 'How many of them are Suspended.';
COMMENT ON COLUMN customers.sites_missing IS 'How many of them are Missing.';
COMMENT ON COLUMN customers.sites_unknown IS 'How many of them are Unknown.';
COMMENT ON COLUMN customers.sites_out_of_sync IS 'How many of them are OutOfSync.';
COMMENT ON COLUMN customers.tunnels IS 'How many tunnels the customer has.';
COMMENT ON COLUMN customers.tunnels_healthy IS 'How many of them are Healthy.';
COMMENT ON COLUMN customers.tunnels_progressing IS 'How many of them are Progressing.';
COMMENT ON COLUMN customers.tunnels_degraded IS 'How many of them are Degraded.';
COMMENT ON COLUMN customers.tunnels_suspended IS 'How many of them are Suspended.';
COMMENT ON COLUMN customers.tunnels_missing IS 'How many of them are Missing.';
COMMENT ON COLUMN customers.tunnels_unknown IS 'How many of them are Unknown.';
COMMENT ON COLUMN customers.tunnels_out_of_sync IS 'How many of them are OutOfSync.';
COMMENT ON COLUMN customers.devices IS 'How many devices the customer has.';
COMMENT ON COLUMN customers.devices_healthy IS 'How many of them are Healthy.';
COMMENT ON COLUMN customers.devices_progressing IS 'How many of them are Progressing.';
COMMENT ON COLUMN customers.devices_degraded IS 'How many of them are Degraded.';
COMMENT ON COLUMN customers.devices_suspended IS 'How many of them are Suspended.';
COMMENT ON COLUMN customers.devices_missing IS 'How many of them are Missing.';
COMMENT ON COLUMN customers.devices_unknown IS 'How many of them are Unknown.';
COMMENT ON COLUMN customers.devices_out_of_sync IS 'How many of them are OutOfSync.';
COMMENT ON COLUMN customers.messages IS 'How many messages the customer''s history has.';
COMMENT ON COLUMN customers.chain_head IS 'The digest of the customer''s last message; the next one must name it as prev.';
COMMENT ON COLUMN customers.last_actor IS 'Who sent the last command.';
COMMENT ON COLUMN customers.created_at IS 'When the customer''s first command was decided.';
COMMENT ON COLUMN customers.updated_at IS 'When the customer''s last command was decided.';
COMMENT ON COLUMN customers.stream IS 'The stream with the customer''s history.';
COMMENT ON COLUMN customers.sequence IS 'The sequence of the customer''s last message.';
CREATE INDEX customers_position ON customers (stream, sequence);
CREATE INDEX customers_degraded ON customers (customer) WHERE sites_degraded + tunnels_degraded + devices_degraded > 0;

CREATE TABLE sites (
    customer text NOT NULL,
    id text NOT NULL,
    vendor text NOT NULL,
    lan inet[] NOT NULL,
    uid uuid NOT NULL,
    spec jsonb NOT NULL,
    generation bigint NOT NULL,
    observed_generation bigint,
    outputs jsonb NOT NULL DEFAULT '{}',
    failure_code text,
    failure_message text,
    failed_generation bigint,
    drift jsonb,
    checking uuid,
    checked_at timestamptz,
    decommissioning boolean NOT NULL DEFAULT false,
    retry_pending boolean NOT NULL DEFAULT false,
    retries bigint NOT NULL DEFAULT 0,
    health text NOT NULL CHECK (health IN ('Healthy','Progressing','Degraded','Suspended','Missing','Unknown')),
    sync text NOT NULL CHECK (sync IN ('Synced','OutOfSync','Unknown')),
    conditions jsonb NOT NULL,
    last_order uuid,
    created_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL,
    applied_at timestamptz,
    updated_at timestamptz NOT NULL,
    stream text NOT NULL,
    sequence bigint NOT NULL,
    PRIMARY KEY (customer, id)
);
COMMENT ON TABLE sites IS 'The sites that are wanted or still at their vendor: one row each, folded from EVENTS. A site that is gone has no row; its timeline stays.';
COMMENT ON COLUMN sites.customer IS 'The customer.';
COMMENT ON COLUMN sites.id IS 'The site, unique within its customer.';
COMMENT ON COLUMN sites.vendor IS 'Whose equipment the site has.';
COMMENT ON COLUMN sites.lan IS 'The networks at the site.';
COMMENT ON COLUMN sites.uid IS 'The command that created the object: tells it apart from a later one of the same name.';
COMMENT ON COLUMN sites.spec IS 'What the object should be, whole, as the customer wrote it with the vendor''s defaults filled in.';
COMMENT ON COLUMN sites.generation IS 'The generation of spec; grows with every change.';
COMMENT ON COLUMN sites.observed_generation IS 'The newest generation the vendor is known to have; null before the first was applied.';
COMMENT ON COLUMN sites.outputs IS 'What the object is at the vendor: its id there and whatever other orders need.';
COMMENT ON COLUMN sites.failure_code IS 'The reason''s code when the last try failed for good; null otherwise.';
COMMENT ON COLUMN sites.failure_message IS 'The failure in a sentence.';
COMMENT ON COLUMN sites.failed_generation IS 'The generation that failed.';
COMMENT ON COLUMN sites.drift IS 'The drift found last and not resolved: {check, found_at, fields: [{field, desired, observed}]}; null when there is none.';
COMMENT ON COLUMN sites.checking IS 'The command whose drift check has not been answered yet.';
COMMENT ON COLUMN sites.checked_at IS 'When a drift check was answered last.';
COMMENT ON COLUMN sites.decommissioning IS 'Whether the object is being taken down.';
COMMENT ON COLUMN sites.retry_pending IS 'Whether a person asked to try again and no answer has come yet.';
COMMENT ON COLUMN sites.retries IS 'How many times a person asked to try again.';
COMMENT ON COLUMN sites.health IS 'How the object is: Healthy, Progressing, Degraded, Suspended, Missing or Unknown.';
COMMENT ON COLUMN sites.sync IS 'Whether the vendor has what is wanted: Synced, OutOfSync or Unknown.';
COMMENT ON COLUMN sites.conditions IS 'Ready, Provisioned and InSync in the manner of metav1.Condition: type, status, observedGeneration, lastTransitionTime, reason, message.';
COMMENT ON COLUMN sites.last_order IS 'The order that applied or failed last.';
COMMENT ON COLUMN sites.created_at IS 'When the object was created, by the command service''s clock.';
COMMENT ON COLUMN sites.changed_at IS 'When spec changed last.';
COMMENT ON COLUMN sites.applied_at IS 'When a generation was applied last.';
COMMENT ON COLUMN sites.updated_at IS 'When the last event about the object was decided.';
COMMENT ON COLUMN sites.stream IS 'The stream with the last event about the object.';
COMMENT ON COLUMN sites.sequence IS 'The sequence of the last message about the object.';
CREATE INDEX sites_attention ON sites (customer, id) WHERE health <> 'Healthy' OR sync <> 'Synced';
CREATE INDEX sites_health ON sites (health, customer, id);
CREATE INDEX sites_drifted ON sites (customer, id) WHERE drift IS NOT NULL;
CREATE INDEX sites_position ON sites (stream, sequence);

CREATE TABLE tunnels (
    customer text NOT NULL,
    id text NOT NULL,
    site text NOT NULL,
    vendor text,
    peer_kind text NOT NULL CHECK (peer_kind IN ('site','hub')),
    peer text NOT NULL,
    inside inet NOT NULL,
    local_asn bigint,
    peer_asn bigint,
    uid uuid NOT NULL,
    spec jsonb NOT NULL,
    generation bigint NOT NULL,
    observed_generation bigint,
    outputs jsonb NOT NULL DEFAULT '{}',
    failure_code text,
    failure_message text,
    failed_generation bigint,
    drift jsonb,
    checking uuid,
    checked_at timestamptz,
    decommissioning boolean NOT NULL DEFAULT false,
    retry_pending boolean NOT NULL DEFAULT false,
    retries bigint NOT NULL DEFAULT 0,
    health text NOT NULL CHECK (health IN ('Healthy','Progressing','Degraded','Suspended','Missing','Unknown')),
    sync text NOT NULL CHECK (sync IN ('Synced','OutOfSync','Unknown')),
    conditions jsonb NOT NULL,
    last_order uuid,
    created_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL,
    applied_at timestamptz,
    updated_at timestamptz NOT NULL,
    stream text NOT NULL,
    sequence bigint NOT NULL,
    PRIMARY KEY (customer, id)
);
COMMENT ON TABLE tunnels IS 'The tunnels that are wanted or still at their vendor: one row each, folded from EVENTS. A tunnel that is gone has no row; its timeline stays.';
COMMENT ON COLUMN tunnels.customer IS 'The customer.';
COMMENT ON COLUMN tunnels.id IS 'The tunnel, unique within its customer.';
COMMENT ON COLUMN tunnels.site IS 'The site the tunnel starts from.';
COMMENT ON COLUMN tunnels.vendor IS 'The vendor, taken from the site.';
COMMENT ON COLUMN tunnels.peer_kind IS 'Whether the far end is a site of the customer or a hub of the vendor.';
COMMENT ON COLUMN tunnels.peer IS 'The far end.';
COMMENT ON COLUMN tunnels.inside IS 'The addresses inside the tunnel.';
COMMENT ON COLUMN tunnels.local_asn IS 'The site''s autonomous system number; null without BGP.';
COMMENT ON COLUMN tunnels.peer_asn IS 'The far end''s autonomous system number; null without BGP.';
COMMENT ON COLUMN tunnels.uid IS 'The command that created the object: tells it apart from a later one of the same name.';
COMMENT ON COLUMN tunnels.spec IS 'What the object should be, whole, as the customer wrote it with the vendor''s defaults filled in.';
COMMENT ON COLUMN tunnels.generation IS 'The generation of spec; grows with every change.';
COMMENT ON COLUMN tunnels.observed_generation IS 'The newest generation the vendor is known to have; null before the first was applied.';
COMMENT ON COLUMN tunnels.outputs IS 'What the object is at the vendor: its id there and whatever other orders need.';
COMMENT ON COLUMN tunnels.failure_code IS 'The reason''s code when the last try failed for good; null otherwise.';
COMMENT ON COLUMN tunnels.failure_message IS 'The failure in a sentence.';
COMMENT ON COLUMN tunnels.failed_generation IS 'The generation that failed.';
COMMENT ON COLUMN tunnels.drift IS 'The drift found last and not resolved: {check, found_at, fields: [{field, desired, observed}]}; null when there is none.';
COMMENT ON COLUMN tunnels.checking IS 'The command whose drift check has not been answered yet.';
COMMENT ON COLUMN tunnels.checked_at IS 'When a drift check was answered last.';
COMMENT ON COLUMN tunnels.decommissioning IS 'Whether the object is being taken down.';
COMMENT ON COLUMN tunnels.retry_pending IS 'Whether a person asked to try again and no answer has come yet.';
COMMENT ON COLUMN tunnels.retries IS 'How many times a person asked to try again.';
COMMENT ON COLUMN tunnels.health IS 'How the object is: Healthy, Progressing, Degraded, Suspended, Missing or Unknown.';
COMMENT ON COLUMN tunnels.sync IS 'Whether the vendor has what is wanted: Synced, OutOfSync or Unknown.';
COMMENT ON COLUMN tunnels.conditions IS 'Ready, Provisioned and InSync in the manner of metav1.Condition: type, status, observedGeneration, lastTransitionTime, reason, message.';
COMMENT ON COLUMN tunnels.last_order IS 'The order that applied or failed last.';
COMMENT ON COLUMN tunnels.created_at IS 'When the object was created, by the command service''s clock.';
COMMENT ON COLUMN tunnels.changed_at IS 'When spec changed last.';
COMMENT ON COLUMN tunnels.applied_at IS 'When a generation was applied last.';
COMMENT ON COLUMN tunnels.updated_at IS 'When the last event about the object was decided.';
COMMENT ON COLUMN tunnels.stream IS 'The stream with the last event about the object.';
COMMENT ON COLUMN tunnels.sequence IS 'The sequence of the last message about the object.';
CREATE INDEX tunnels_attention ON tunnels (customer, id) WHERE health <> 'Healthy' OR sync <> 'Synced';
CREATE INDEX tunnels_health ON tunnels (health, customer, id);
CREATE INDEX tunnels_drifted ON tunnels (customer, id) WHERE drift IS NOT NULL;
CREATE INDEX tunnels_position ON tunnels (stream, sequence);
CREATE INDEX tunnels_site ON tunnels (customer, site, id);
CREATE INDEX tunnels_peer ON tunnels (customer, peer, id);

CREATE TABLE devices (
    customer text NOT NULL,
    id text NOT NULL,
    site text NOT NULL,
    vendor text,
    serial text NOT NULL,
    model text NOT NULL,
    uid uuid NOT NULL,
    spec jsonb NOT NULL,
    generation bigint NOT NULL,
    observed_generation bigint,
    outputs jsonb NOT NULL DEFAULT '{}',
    failure_code text,
    failure_message text,
    failed_generation bigint,
    drift jsonb,
    checking uuid,
    checked_at timestamptz,
    decommissioning boolean NOT NULL DEFAULT false,
    retry_pending boolean NOT NULL DEFAULT false,
    retries bigint NOT NULL DEFAULT 0,
    health text NOT NULL CHECK (health IN ('Healthy','Progressing','Degraded','Suspended','Missing','Unknown')),
    sync text NOT NULL CHECK (sync IN ('Synced','OutOfSync','Unknown')),
    conditions jsonb NOT NULL,
    last_order uuid,
    created_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL,
    applied_at timestamptz,
    updated_at timestamptz NOT NULL,
    stream text NOT NULL,
    sequence bigint NOT NULL,
    PRIMARY KEY (customer, id)
);
COMMENT ON TABLE devices IS 'The devices that are wanted or still at their vendor: one row each, folded from EVENTS. A device that is gone has no row; its timeline stays.';
COMMENT ON COLUMN devices.customer IS 'The customer.';
COMMENT ON COLUMN devices.id IS 'The device, unique within its customer.';
COMMENT ON COLUMN devices.site IS 'The site the device stands at.';
COMMENT ON COLUMN devices.vendor IS 'The vendor, taken from the site.';
COMMENT ON COLUMN devices.serial IS 'The serial number.';
COMMENT ON COLUMN devices.model IS 'The model, one of those the vendor''s folder names.';
COMMENT ON COLUMN devices.uid IS 'The command that created the object: tells it apart from a later one of the same name.';
COMMENT ON COLUMN devices.spec IS 'What the object should be, whole, as the customer wrote it with the vendor''s defaults filled in.';
COMMENT ON COLUMN devices.generation IS 'The generation of spec; grows with every change.';
COMMENT ON COLUMN devices.observed_generation IS 'The newest generation the vendor is known to have; null before the first was applied.';
COMMENT ON COLUMN devices.outputs IS 'What the object is at the vendor: its id there and whatever other orders need.';
COMMENT ON COLUMN devices.failure_code IS 'The reason''s code when the last try failed for good; null otherwise.';
COMMENT ON COLUMN devices.failure_message IS 'The failure in a sentence.';
COMMENT ON COLUMN devices.failed_generation IS 'The generation that failed.';
COMMENT ON COLUMN devices.drift IS 'The drift found last and not resolved: {check, found_at, fields: [{field, desired, observed}]}; null when there is none.';
COMMENT ON COLUMN devices.checking IS 'The command whose drift check has not been answered yet.';
COMMENT ON COLUMN devices.checked_at IS 'When a drift check was answered last.';
COMMENT ON COLUMN devices.decommissioning IS 'Whether the object is being taken down.';
COMMENT ON COLUMN devices.retry_pending IS 'Whether a person asked to try again and no answer has come yet.';
COMMENT ON COLUMN devices.retries IS 'How many times a person asked to try again.';
COMMENT ON COLUMN devices.health IS 'How the object is: Healthy, Progressing, Degraded, Suspended, Missing or Unknown.';
COMMENT ON COLUMN devices.sync IS 'Whether the vendor has what is wanted: Synced, OutOfSync or Unknown.';
COMMENT ON COLUMN devices.conditions IS 'Ready, Provisioned and InSync in the manner of metav1.Condition: type, status, observedGeneration, lastTransitionTime, reason, message.';
COMMENT ON COLUMN devices.last_order IS 'The order that applied or failed last.';
COMMENT ON COLUMN devices.created_at IS 'When the object was created, by the command service''s clock.';
COMMENT ON COLUMN devices.changed_at IS 'When spec changed last.';
COMMENT ON COLUMN devices.applied_at IS 'When a generation was applied last.';
COMMENT ON COLUMN devices.updated_at IS 'When the last event about the object was decided.';
COMMENT ON COLUMN devices.stream IS 'The stream with the last event about the object.';
COMMENT ON COLUMN devices.sequence IS 'The sequence of the last message about the object.';
CREATE INDEX devices_attention ON devices (customer, id) WHERE health <> 'Healthy' OR sync <> 'Synced';
CREATE INDEX devices_health ON devices (health, customer, id);
CREATE INDEX devices_drifted ON devices (customer, id) WHERE drift IS NOT NULL;
CREATE INDEX devices_position ON devices (stream, sequence);
CREATE INDEX devices_site ON devices (customer, site, id);
CREATE INDEX devices_serial ON devices (serial);
