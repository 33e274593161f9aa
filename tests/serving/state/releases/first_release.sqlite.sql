-- What a database of the first release holds: one row in each table. Never changed.
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL,
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('first_release');
CREATE TABLE answers (
	rowid INTEGER NOT NULL,
	id VARCHAR(64) NOT NULL,
	created_at BIGINT NOT NULL,
	project VARCHAR(64) NOT NULL,
	kind VARCHAR(24) NOT NULL,
	model VARCHAR NOT NULL,
	input JSON NOT NULL,
	body JSON NOT NULL,
	metadata JSON,
	expires_at BIGINT NOT NULL,
	PRIMARY KEY (rowid),
	UNIQUE (id)
);
INSERT INTO "answers" VALUES(1,'resp_1',1764028800,'team','response','tiny','[]','{"id": "resp_1"}',NULL,2764028800);
CREATE TABLE audit (
	rowid INTEGER NOT NULL,
	at BIGINT NOT NULL,
	key_id VARCHAR(64) NOT NULL,
	project VARCHAR(64) NOT NULL,
	action VARCHAR(64) NOT NULL,
	object VARCHAR NOT NULL,
	PRIMARY KEY (rowid)
);
INSERT INTO "audit" VALUES(1,1764028800,'key_1','team','file.create','file-0000000000000001');
CREATE TABLE batches (
	rowid INTEGER NOT NULL,
	endpoint VARCHAR NOT NULL,
	input_file_id VARCHAR(64) NOT NULL,
	completion_window VARCHAR(16) NOT NULL,
	status VARCHAR(16) NOT NULL,
	requested VARCHAR(16),
	output_file_id VARCHAR(64),
	error_file_id VARCHAR(64),
	output_expires_after BIGINT,
	times JSON NOT NULL,
	expires_at BIGINT,
	counts JSON NOT NULL,
	usage JSON,
	errors JSON,
	model VARCHAR,
	metadata JSON,
	owner_key VARCHAR(64) NOT NULL,
	lease_owner VARCHAR(128),
	lease_until BIGINT,
	attempts BIGINT NOT NULL,
	project VARCHAR(64) NOT NULL,
	id VARCHAR(64) NOT NULL,
	created_at BIGINT NOT NULL,
	PRIMARY KEY (rowid),
	UNIQUE (id)
);
INSERT INTO "batches" VALUES(1,'/v1/chat/completions','file-0000000000000001','24h','completed',NULL,NULL,NULL,NULL,'{"completed_at": 1764028800}',NULL,'{"total": 1, "completed": 1, "failed": 0}',NULL,NULL,NULL,NULL,'key_1',NULL,NULL,0,'team','batch_1',1764028800);
CREATE TABLE checkpoints (
	rowid INTEGER NOT NULL,
	job_id VARCHAR(64) NOT NULL,
	step BIGINT NOT NULL,
	model_name VARCHAR NOT NULL,
	metrics JSON NOT NULL,
	path VARCHAR,
	id VARCHAR(64) NOT NULL,
	created_at BIGINT NOT NULL,
	PRIMARY KEY (rowid),
	UNIQUE (id),
	FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE
);
INSERT INTO "checkpoints" VALUES(1,'ftjob-1',10,'ft:tiny:team::1:ckpt-step-10','{"step": 10}','models/1-10','ftckpt_1',1764028830);
CREATE TABLE eval_items (
	rowid INTEGER NOT NULL,
	id VARCHAR(64) NOT NULL,
	created_at BIGINT NOT NULL,
	project VARCHAR(64) NOT NULL,
	run_id VARCHAR(64) NOT NULL,
	number BIGINT NOT NULL,
	status VARCHAR(8) NOT NULL,
	item JSON NOT NULL,
	sample JSON NOT NULL,
	results JSON NOT NULL,
	PRIMARY KEY (rowid),
	FOREIGN KEY(run_id) REFERENCES eval_runs (id) ON DELETE CASCADE,
	UNIQUE (id)
);
INSERT INTO "eval_items" VALUES(1,'outputitem_1',1764028800,'team','evalrun_1',0,'pass','{"q": "\ud734\uac00"}','{}','[]');
CREATE TABLE eval_runs (
	rowid INTEGER NOT NULL,
	id VARCHAR(64) NOT NULL,
	created_at BIGINT NOT NULL,
	project VARCHAR(64) NOT NULL,
	eval_id VARCHAR(64) NOT NULL,
	name VARCHAR NOT NULL,
	status VARCHAR(16) NOT NULL,
	data_source JSON NOT NULL,
	model VARCHAR,
	results JSON NOT NULL,
	error JSON,
	metadata JSON,
	owner_key VARCHAR(64) NOT NULL,
	lease_owner VARCHAR(128),
	lease_until BIGINT,
	attempts BIGINT NOT NULL,
	PRIMARY KEY (rowid),
	FOREIGN KEY(eval_id) REFERENCES evals (id) ON DELETE CASCADE,
	UNIQUE (id)
);
INSERT INTO "eval_runs" VALUES(1,'evalrun_1',1764028800,'team','eval_1','first','completed','{"type": "jsonl"}',NULL,'{"total": 1}',NULL,NULL,'key_1',NULL,NULL,0);
CREATE TABLE evals (
	rowid INTEGER NOT NULL,
	id VARCHAR(64) NOT NULL,
	created_at BIGINT NOT NULL,
	project VARCHAR(64) NOT NULL,
	name VARCHAR NOT NULL,
	data_source_config JSON NOT NULL,
	testing_criteria JSON NOT NULL,
	metadata JSON,
	PRIMARY KEY (rowid),
	UNIQUE (id)
);
INSERT INTO "evals" VALUES(1,'eval_1',1764028800,'team','facts','{"type": "custom"}','[]',NULL);
CREATE TABLE events (
	rowid INTEGER NOT NULL,
	job_id VARCHAR(64) NOT NULL,
	level VARCHAR(8) NOT NULL,
	message VARCHAR NOT NULL,
	type VARCHAR(16) NOT NULL,
	data JSON,
	id VARCHAR(64) NOT NULL,
	created_at BIGINT NOT NULL,
	PRIMARY KEY (rowid),
	UNIQUE (id),
	FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE
);
INSERT INTO "events" VALUES(1,'ftjob-1','info','Fine-tuning job started','message',NULL,'ftevent-1',1764028801);
CREATE TABLE files (
	rowid INTEGER NOT NULL,
	bytes BIGINT NOT NULL,
	filename VARCHAR NOT NULL,
	purpose VARCHAR(32) NOT NULL,
	status VARCHAR(16) NOT NULL,
	status_details VARCHAR,
	expires_at BIGINT,
	sha256 VARCHAR(64) NOT NULL,
	owner_key VARCHAR(64) NOT NULL,
	report JSON,
	project VARCHAR(64) NOT NULL,
	id VARCHAR(64) NOT NULL,
	created_at BIGINT NOT NULL,
	PRIMARY KEY (rowid),
	UNIQUE (id)
);
INSERT INTO "files" VALUES(1,23,'연차.jsonl','fine-tune','processed',NULL,NULL,'b055faa86edb67318ea1db1e1529d7be88de12e9caf02a104390b5cf2fe1c11b','key_1','{"rows": 1}','team','file-0000000000000001',1764028800);
CREATE TABLE installation (
	rowid INTEGER NOT NULL,
	id VARCHAR(32) NOT NULL,
	PRIMARY KEY (rowid),
	UNIQUE (id)
);
INSERT INTO "installation" VALUES(1,'5f0c2a9be1d34786');
CREATE TABLE jobs (
	rowid INTEGER NOT NULL,
	seq BIGINT NOT NULL,
	started_at BIGINT,
	finished_at BIGINT,
	status VARCHAR(24) NOT NULL,
	model VARCHAR NOT NULL,
	base VARCHAR,
	training_file VARCHAR(64) NOT NULL,
	validation_file VARCHAR(64),
	method_type VARCHAR(24) NOT NULL,
	method JSON,
	hyperparameters JSON,
	seed BIGINT NOT NULL,
	suffix VARCHAR(64),
	metadata JSON,
	integrations JSON,
	trained_tokens BIGINT,
	estimated_finish BIGINT,
	fine_tuned_model VARCHAR,
	result_files JSON NOT NULL,
	error JSON,
	body_hash VARCHAR(64),
	owner_key VARCHAR(64) NOT NULL,
	extensions JSON,
	lease_owner VARCHAR(128),
	lease_until BIGINT,
	attempts BIGINT NOT NULL,
	project VARCHAR(64) NOT NULL,
	id VARCHAR(64) NOT NULL,
	created_at BIGINT NOT NULL,
	PRIMARY KEY (rowid),
	UNIQUE (id)
);
INSERT INTO "jobs" VALUES(1,1,1764028801,1764028860,'succeeded','tiny','tiny','file-0000000000000001',NULL,'supervised','{"type": "supervised"}','{"n_epochs": 1}',7,NULL,NULL,NULL,100,NULL,'ft:tiny:team::1','[]',NULL,NULL,'key_1',NULL,NULL,NULL,1,'team','ftjob-1',1764028800);
CREATE TABLE keys (
	rowid INTEGER NOT NULL,
	name VARCHAR NOT NULL,
	project VARCHAR(64) NOT NULL,
	scopes JSON NOT NULL,
	hash VARCHAR(64) NOT NULL,
	last_used_at BIGINT,
	revoked_at BIGINT,
	id VARCHAR(64) NOT NULL,
	created_at BIGINT NOT NULL,
	PRIMARY KEY (rowid),
	UNIQUE (hash),
	UNIQUE (id)
);
INSERT INTO "keys" VALUES(1,'내 키','team','["inference", "training"]','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',1764028805,NULL,'key_1',1764028800);
CREATE TABLE permissions (
	rowid INTEGER NOT NULL,
	model VARCHAR NOT NULL,
	project VARCHAR(64) NOT NULL,
	id VARCHAR(64) NOT NULL,
	created_at BIGINT NOT NULL,
	PRIMARY KEY (rowid),
	UNIQUE (id),
	UNIQUE (model, project)
);
INSERT INTO "permissions" VALUES(1,'ft:tiny:team::1','other','cp_1',1764028800);
CREATE TABLE served_models (
	rowid INTEGER NOT NULL,
	name VARCHAR NOT NULL,
	project VARCHAR(64) NOT NULL,
	created_at BIGINT NOT NULL,
	job_id VARCHAR(64),
	base VARCHAR NOT NULL,
	kind VARCHAR(16) NOT NULL,
	path VARCHAR NOT NULL,
	parent VARCHAR,
	deleted_at BIGINT,
	PRIMARY KEY (rowid),
	UNIQUE (name)
);
INSERT INTO "served_models" VALUES(1,'ft:tiny:team::1','team',1764028860,'ftjob-1','store/catalog/tiny','adapter','models/1',NULL,NULL);
CREATE TABLE sign_ins (
	key_id VARCHAR(64) NOT NULL,
	browser VARCHAR NOT NULL,
	seen_at BIGINT NOT NULL,
	rowid INTEGER NOT NULL,
	id VARCHAR(64) NOT NULL,
	created_at BIGINT NOT NULL,
	PRIMARY KEY (rowid),
	UNIQUE (id)
);
INSERT INTO "sign_ins" VALUES('key_1','Firefox',1764028809,1,'session_1',1764028800);
CREATE TABLE upload_parts (
	rowid INTEGER NOT NULL,
	upload_id VARCHAR(64) NOT NULL,
	bytes BIGINT NOT NULL,
	md5 VARCHAR(32) NOT NULL,
	id VARCHAR(64) NOT NULL,
	created_at BIGINT NOT NULL,
	PRIMARY KEY (rowid),
	UNIQUE (id),
	FOREIGN KEY(upload_id) REFERENCES uploads (id) ON DELETE CASCADE
);
INSERT INTO "upload_parts" VALUES(1,'upload_1',4,'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','part_1',1764028800);
CREATE TABLE uploads (
	rowid INTEGER NOT NULL,
	bytes BIGINT NOT NULL,
	filename VARCHAR NOT NULL,
	mime_type VARCHAR NOT NULL,
	purpose VARCHAR(32) NOT NULL,
	status VARCHAR(16) NOT NULL,
	expires_at BIGINT NOT NULL,
	file_expires_after BIGINT,
	file_id VARCHAR(64),
	owner_key VARCHAR(64) NOT NULL,
	project VARCHAR(64) NOT NULL,
	id VARCHAR(64) NOT NULL,
	created_at BIGINT NOT NULL,
	PRIMARY KEY (rowid),
	UNIQUE (id)
);
INSERT INTO "uploads" VALUES(1,4,'b.jsonl','text/jsonl','fine-tune','pending',1764032400,NULL,NULL,'key_1','team','upload_1',1764028800);
CREATE TABLE webhook_deliveries (
	rowid INTEGER NOT NULL,
	webhook_id VARCHAR(64) NOT NULL,
	type VARCHAR(64) NOT NULL,
	payload JSON NOT NULL,
	status VARCHAR(16) NOT NULL,
	next_at BIGINT NOT NULL,
	delivered_at BIGINT,
	last_error VARCHAR,
	lease_owner VARCHAR(128),
	lease_until BIGINT,
	attempts BIGINT NOT NULL,
	id VARCHAR(64) NOT NULL,
	created_at BIGINT NOT NULL,
	PRIMARY KEY (rowid),
	UNIQUE (id),
	FOREIGN KEY(webhook_id) REFERENCES webhooks (id) ON DELETE CASCADE
);
INSERT INTO "webhook_deliveries" VALUES(1,'we_1','fine_tuning.job.succeeded','{"id": "ftjob-1"}','delivered',1764028800,1764028801,NULL,NULL,NULL,1,'evt_1',1764028800);
CREATE TABLE webhooks (
	rowid INTEGER NOT NULL,
	updated_at BIGINT NOT NULL,
	name VARCHAR NOT NULL,
	url VARCHAR NOT NULL,
	events JSON NOT NULL,
	secret VARCHAR NOT NULL,
	previous_secret VARCHAR,
	previous_until BIGINT,
	disabled_at BIGINT,
	project VARCHAR(64) NOT NULL,
	id VARCHAR(64) NOT NULL,
	created_at BIGINT NOT NULL,
	PRIMARY KEY (rowid),
	UNIQUE (id)
);
INSERT INTO "webhooks" VALUES(1,1764028800,'ci','https://example.com/hook','["fine_tuning.job.succeeded"]','whsec_x',NULL,NULL,NULL,'team','we_1',1764028800);
CREATE INDEX ix_batches_project ON batches (project);
CREATE INDEX ix_batches_status ON batches (status);
CREATE INDEX ix_files_expires_at ON files (expires_at);
CREATE INDEX ix_files_project ON files (project);
CREATE INDEX ix_jobs_body_hash ON jobs (body_hash);
CREATE INDEX ix_jobs_project ON jobs (project);
CREATE INDEX jobs_by_status ON jobs (status, seq);
CREATE INDEX ix_permissions_model ON permissions (model);
CREATE INDEX ix_permissions_project ON permissions (project);
CREATE INDEX ix_served_models_job_id ON served_models (job_id);
CREATE INDEX ix_served_models_project ON served_models (project);
CREATE INDEX ix_uploads_expires_at ON uploads (expires_at);
CREATE INDEX ix_uploads_project ON uploads (project);
CREATE INDEX ix_webhooks_project ON webhooks (project);
CREATE INDEX ix_checkpoints_job_id ON checkpoints (job_id);
CREATE INDEX ix_checkpoints_model_name ON checkpoints (model_name);
CREATE INDEX events_of_job ON events (job_id, created_at, rowid);
CREATE INDEX ix_upload_parts_upload_id ON upload_parts (upload_id);
CREATE INDEX ix_webhook_deliveries_status ON webhook_deliveries (status);
CREATE INDEX ix_webhook_deliveries_webhook_id ON webhook_deliveries (webhook_id);
CREATE INDEX ix_answers_project ON answers (project);
CREATE INDEX ix_answers_expires_at ON answers (expires_at);
CREATE INDEX ix_evals_project ON evals (project);
CREATE INDEX ix_eval_runs_project ON eval_runs (project);
CREATE INDEX ix_eval_runs_eval_id ON eval_runs (eval_id);
CREATE INDEX ix_eval_runs_status ON eval_runs (status);
CREATE INDEX ix_eval_items_project ON eval_items (project);
CREATE INDEX ix_eval_items_run_id ON eval_items (run_id);
CREATE INDEX ix_sign_ins_key_id ON sign_ins (key_id);
COMMIT;
