//! What a desk writes and reads: one statement a step, each over a JSON array of items, so that a thousand
//! contracts cost a few statements. Every item carries the audit event that belongs to it. A statement that
//! moves what is active is headed by its guard; the others run under the project's row.

/// A new draft, or another content of the former one.
pub(super) const WRITE_DRAFT: &str = "
WITH c AS (INSERT INTO contract (project_id, kind, id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING),
v AS (INSERT INTO contract_version (project_id, kind, id, version, version_id, sha256, body, state, created_at, created_by)
  VALUES ($1, $2, $3, $4, $5, $6, $7, 'draft', $8, $9)
  ON CONFLICT (project_id, kind, id, version) DO UPDATE
    SET sha256 = excluded.sha256, body = excluded.body, created_at = excluded.created_at, created_by = excluded.created_by
    WHERE contract_version.state = 'draft')
INSERT INTO audit_event (project_id, id, at, actor, action, subject, body, key_id, mac)
VALUES ($1, $10, $8, $9, 'contract.draft', $2 || '/' || $3, $11, $12, $13)";

/// New versions, and drafts that end by it.
pub(super) const PUBLISH: &str = "
WITH r AS (SELECT * FROM jsonb_to_recordset($2::text::jsonb) AS r (kind text, id text, version integer,
  version_id uuid, sha256 text, body text, key_id text, signature text, event_id uuid, event_body text,
  event_key text, event_mac text)),
c AS (INSERT INTO contract (project_id, kind, id) SELECT $1, kind, id FROM r ON CONFLICT DO NOTHING),
v AS (   -- a draft of this number ends by being published
  INSERT INTO contract_version AS v (project_id, kind, id, version, version_id, sha256, body, state, created_at,
    created_by, published_at, published_by, publisher, key_id, signature)
  SELECT $1, kind, id, version, version_id, sha256, body, 'published', $3, $4, $3, $4, $5, key_id,
    decode(signature, 'hex') FROM r
  ON CONFLICT (project_id, kind, id, version) DO UPDATE
    SET state = 'published', published_at = $3, published_by = $4, publisher = $5, key_id = excluded.key_id,
      signature = excluded.signature
    WHERE v.state = 'draft' AND v.sha256 = excluded.sha256)
INSERT INTO audit_event (project_id, id, at, actor, action, subject, body, key_id, mac)
SELECT $1, event_id, $3, $4, 'contract.publish', kind || '/' || id, event_body, event_key, decode(event_mac, 'hex')
FROM r";

/// Signatures of one signer.
pub(super) const ENDORSE: &str = "
WITH r AS (SELECT * FROM jsonb_to_recordset($2::text::jsonb) AS r (kind text, id text, version integer, act text,
  base integer, key_id text, signature text, event_id uuid, event_body text, event_key text, event_mac text)),
s AS (   -- a former signature that counts no more gives way
  INSERT INTO contract_signature (project_id, kind, id, version, act, signer, is_person, base_version, signed_at,
    key_id, signature)
  SELECT $1, kind, id, version, act, $5, $6, base, $3, key_id, decode(signature, 'hex') FROM r
  ON CONFLICT (project_id, kind, id, version, act, signer) DO UPDATE
    SET is_person = excluded.is_person, base_version = excluded.base_version, signed_at = excluded.signed_at,
      used_at = NULL, key_id = excluded.key_id, signature = excluded.signature)
INSERT INTO audit_event (project_id, id, at, actor, action, subject, body, key_id, mac)
SELECT $1, event_id, $3, $4, 'contract.sign', kind || '/' || id, event_body, event_key, decode(event_mac, 'hex')
FROM r";

/// Unused signatures for each of the places.
pub(super) const SIGNATURES: &str = "
SELECT k.n, s.signer, s.is_person, s.base_version, s.signed_at, s.key_id, s.signature
FROM unnest($2::text[], $3::text[], $4::integer[], $5::text[]) WITH ORDINALITY AS k (kind, id, version, act, n)
JOIN contract_signature s ON s.project_id = $1 AND s.kind = k.kind AND s.id = k.id AND s.version = k.version
  AND s.act = k.act AND s.used_at IS NULL
ORDER BY k.n, s.signed_at, s.signer";

/// What was active of the contracts retires; before another version becomes active, as only one may be.
pub(super) const RETIRE_FORMER: &str = "
WITH r AS (SELECT * FROM jsonb_to_recordset($2::text::jsonb) AS r (kind text, id text))
UPDATE contract_version v SET state = 'retired' FROM r
WHERE v.project_id = $1 AND v.kind = r.kind AND v.id = r.id AND v.state = 'active'";

/// The versions that become active.
pub(super) const ACTIVATE_VERSIONS: &str = "
WITH r AS (SELECT * FROM jsonb_to_recordset($2::text::jsonb) AS r (kind text, id text, \"to\" integer))
UPDATE contract_version v SET state = 'active' FROM r
WHERE v.project_id = $1 AND v.kind = r.kind AND v.id = r.id AND v.version = r.\"to\"";

/// What is active, signatures that are used up, and the audit. Returns how many contracts moved.
pub(super) const MOVE: &str = "
WITH r AS (SELECT * FROM jsonb_to_recordset($2::text::jsonb) AS r (kind text, id text, version integer, base integer,
  \"to\" integer, act text, action text, key_id text, signature text, event_id uuid, event_body text,
  event_key text, event_mac text)),
c AS (   -- the guard: what is active is what the signatures were given against
  UPDATE contract c SET active_version = nullif(r.\"to\", 0), activated_at = $3, activated_by = $4,
    key_id = r.key_id, signature = decode(r.signature, 'hex')
  FROM r WHERE c.project_id = $1 AND c.kind = r.kind AND c.id = r.id AND coalesce(c.active_version, 0) = r.base
  RETURNING r.kind, r.id, r.version, r.act, r.action, r.event_id, r.event_body, r.event_key, r.event_mac),
s AS (   -- a signature is good for one act
  UPDATE contract_signature s SET used_at = $3 FROM c
  WHERE s.project_id = $1 AND s.kind = c.kind AND s.id = c.id AND s.version = c.version AND s.act = c.act
    AND s.used_at IS NULL),
a AS (INSERT INTO audit_event (project_id, id, at, actor, action, subject, body, key_id, mac)
  SELECT $1, event_id, $3, $4, action, kind || '/' || id, event_body, event_key, decode(event_mac, 'hex') FROM c)
SELECT count(*) FROM c";
