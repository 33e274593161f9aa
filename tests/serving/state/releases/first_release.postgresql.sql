-- What a database of the first release holds: one row in each table. Never changed.
SET client_encoding = 'UTF8';
SET check_function_bodies = false;
SET client_min_messages = warning;
CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.answers (
    rowid bigint NOT NULL,
    id character varying(64) NOT NULL,
    created_at bigint NOT NULL,
    project character varying(64) NOT NULL,
    kind character varying(24) NOT NULL,
    model character varying NOT NULL,
    input jsonb NOT NULL,
    body jsonb NOT NULL,
    metadata jsonb,
    expires_at bigint NOT NULL
);
CREATE SEQUENCE public.answers_rowid_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.answers_rowid_seq OWNED BY public.answers.rowid;
CREATE TABLE public.audit (
    rowid bigint NOT NULL,
    at bigint NOT NULL,
    key_id character varying(64) NOT NULL,
    project character varying(64) NOT NULL,
    action character varying(64) NOT NULL,
    object character varying NOT NULL
);
CREATE SEQUENCE public.audit_rowid_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.audit_rowid_seq OWNED BY public.audit.rowid;
CREATE TABLE public.batches (
    rowid bigint NOT NULL,
    endpoint character varying NOT NULL,
    input_file_id character varying(64) NOT NULL,
    completion_window character varying(16) NOT NULL,
    status character varying(16) NOT NULL,
    requested character varying(16),
    output_file_id character varying(64),
    error_file_id character varying(64),
    output_expires_after bigint,
    times jsonb NOT NULL,
    expires_at bigint,
    counts jsonb NOT NULL,
    usage jsonb,
    errors jsonb,
    model character varying,
    metadata jsonb,
    owner_key character varying(64) NOT NULL,
    lease_owner character varying(128),
    lease_until bigint,
    attempts bigint NOT NULL,
    project character varying(64) NOT NULL,
    id character varying(64) NOT NULL,
    created_at bigint NOT NULL
);
CREATE SEQUENCE public.batches_rowid_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.batches_rowid_seq OWNED BY public.batches.rowid;
CREATE TABLE public.checkpoints (
    rowid bigint NOT NULL,
    job_id character varying(64) NOT NULL,
    step bigint NOT NULL,
    model_name character varying NOT NULL,
    metrics jsonb NOT NULL,
    path character varying,
    id character varying(64) NOT NULL,
    created_at bigint NOT NULL
);
CREATE SEQUENCE public.checkpoints_rowid_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.checkpoints_rowid_seq OWNED BY public.checkpoints.rowid;
CREATE TABLE public.eval_items (
    rowid bigint NOT NULL,
    id character varying(64) NOT NULL,
    created_at bigint NOT NULL,
    project character varying(64) NOT NULL,
    run_id character varying(64) NOT NULL,
    number bigint NOT NULL,
    status character varying(8) NOT NULL,
    item jsonb NOT NULL,
    sample jsonb NOT NULL,
    results jsonb NOT NULL
);
CREATE SEQUENCE public.eval_items_rowid_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.eval_items_rowid_seq OWNED BY public.eval_items.rowid;
CREATE TABLE public.eval_runs (
    rowid bigint NOT NULL,
    id character varying(64) NOT NULL,
    created_at bigint NOT NULL,
    project character varying(64) NOT NULL,
    eval_id character varying(64) NOT NULL,
    name character varying NOT NULL,
    status character varying(16) NOT NULL,
    data_source jsonb NOT NULL,
    model character varying,
    results jsonb NOT NULL,
    error jsonb,
    metadata jsonb,
    owner_key character varying(64) NOT NULL,
    lease_owner character varying(128),
    lease_until bigint,
    attempts bigint NOT NULL
);
CREATE SEQUENCE public.eval_runs_rowid_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.eval_runs_rowid_seq OWNED BY public.eval_runs.rowid;
CREATE TABLE public.evals (
    rowid bigint NOT NULL,
    id character varying(64) NOT NULL,
    created_at bigint NOT NULL,
    project character varying(64) NOT NULL,
    name character varying NOT NULL,
    data_source_config jsonb NOT NULL,
    testing_criteria jsonb NOT NULL,
    metadata jsonb
);
CREATE SEQUENCE public.evals_rowid_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.evals_rowid_seq OWNED BY public.evals.rowid;
CREATE TABLE public.events (
    rowid bigint NOT NULL,
    job_id character varying(64) NOT NULL,
    level character varying(8) NOT NULL,
    message character varying NOT NULL,
    type character varying(16) NOT NULL,
    data jsonb,
    id character varying(64) NOT NULL,
    created_at bigint NOT NULL
);
CREATE SEQUENCE public.events_rowid_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.events_rowid_seq OWNED BY public.events.rowid;
CREATE TABLE public.files (
    rowid bigint NOT NULL,
    bytes bigint NOT NULL,
    filename character varying NOT NULL,
    purpose character varying(32) NOT NULL,
    status character varying(16) NOT NULL,
    status_details character varying,
    expires_at bigint,
    sha256 character varying(64) NOT NULL,
    owner_key character varying(64) NOT NULL,
    report jsonb,
    project character varying(64) NOT NULL,
    id character varying(64) NOT NULL,
    created_at bigint NOT NULL
);
CREATE SEQUENCE public.files_rowid_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.files_rowid_seq OWNED BY public.files.rowid;
CREATE TABLE public.installation (
    rowid bigint NOT NULL,
    id character varying(32) NOT NULL
);
CREATE SEQUENCE public.installation_rowid_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.installation_rowid_seq OWNED BY public.installation.rowid;
CREATE TABLE public.jobs (
    rowid bigint NOT NULL,
    seq bigint NOT NULL,
    started_at bigint,
    finished_at bigint,
    status character varying(24) NOT NULL,
    model character varying NOT NULL,
    base character varying,
    training_file character varying(64) NOT NULL,
    validation_file character varying(64),
    method_type character varying(24) NOT NULL,
    method jsonb,
    hyperparameters jsonb,
    seed bigint NOT NULL,
    suffix character varying(64),
    metadata jsonb,
    integrations jsonb,
    trained_tokens bigint,
    estimated_finish bigint,
    fine_tuned_model character varying,
    result_files jsonb NOT NULL,
    error jsonb,
    body_hash character varying(64),
    owner_key character varying(64) NOT NULL,
    extensions jsonb,
    lease_owner character varying(128),
    lease_until bigint,
    attempts bigint NOT NULL,
    project character varying(64) NOT NULL,
    id character varying(64) NOT NULL,
    created_at bigint NOT NULL
);
CREATE SEQUENCE public.jobs_rowid_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.jobs_rowid_seq OWNED BY public.jobs.rowid;
CREATE TABLE public.keys (
    rowid bigint NOT NULL,
    name character varying NOT NULL,
    project character varying(64) NOT NULL,
    scopes jsonb NOT NULL,
    hash character varying(64) NOT NULL,
    last_used_at bigint,
    revoked_at bigint,
    id character varying(64) NOT NULL,
    created_at bigint NOT NULL
);
CREATE SEQUENCE public.keys_rowid_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.keys_rowid_seq OWNED BY public.keys.rowid;
CREATE TABLE public.permissions (
    rowid bigint NOT NULL,
    model character varying NOT NULL,
    project character varying(64) NOT NULL,
    id character varying(64) NOT NULL,
    created_at bigint NOT NULL
);
CREATE SEQUENCE public.permissions_rowid_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.permissions_rowid_seq OWNED BY public.permissions.rowid;
CREATE TABLE public.served_models (
    rowid bigint NOT NULL,
    name character varying NOT NULL,
    project character varying(64) NOT NULL,
    created_at bigint NOT NULL,
    job_id character varying(64),
    base character varying NOT NULL,
    kind character varying(16) NOT NULL,
    path character varying NOT NULL,
    parent character varying,
    deleted_at bigint
);
CREATE SEQUENCE public.served_models_rowid_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.served_models_rowid_seq OWNED BY public.served_models.rowid;
CREATE TABLE public.sign_ins (
    key_id character varying(64) NOT NULL,
    browser character varying NOT NULL,
    seen_at bigint NOT NULL,
    rowid bigint NOT NULL,
    id character varying(64) NOT NULL,
    created_at bigint NOT NULL
);
CREATE SEQUENCE public.sign_ins_rowid_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.sign_ins_rowid_seq OWNED BY public.sign_ins.rowid;
CREATE TABLE public.upload_parts (
    rowid bigint NOT NULL,
    upload_id character varying(64) NOT NULL,
    bytes bigint NOT NULL,
    md5 character varying(32) NOT NULL,
    id character varying(64) NOT NULL,
    created_at bigint NOT NULL
);
CREATE SEQUENCE public.upload_parts_rowid_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.upload_parts_rowid_seq OWNED BY public.upload_parts.rowid;
CREATE TABLE public.uploads (
    rowid bigint NOT NULL,
    bytes bigint NOT NULL,
    filename character varying NOT NULL,
    mime_type character varying NOT NULL,
    purpose character varying(32) NOT NULL,
    status character varying(16) NOT NULL,
    expires_at bigint NOT NULL,
    file_expires_after bigint,
    file_id character varying(64),
    owner_key character varying(64) NOT NULL,
    project character varying(64) NOT NULL,
    id character varying(64) NOT NULL,
    created_at bigint NOT NULL
);
CREATE SEQUENCE public.uploads_rowid_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.uploads_rowid_seq OWNED BY public.uploads.rowid;
CREATE TABLE public.webhook_deliveries (
    rowid bigint NOT NULL,
    webhook_id character varying(64) NOT NULL,
    type character varying(64) NOT NULL,
    payload jsonb NOT NULL,
    status character varying(16) NOT NULL,
    next_at bigint NOT NULL,
    delivered_at bigint,
    last_error character varying,
    lease_owner character varying(128),
    lease_until bigint,
    attempts bigint NOT NULL,
    id character varying(64) NOT NULL,
    created_at bigint NOT NULL
);
CREATE SEQUENCE public.webhook_deliveries_rowid_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.webhook_deliveries_rowid_seq OWNED BY public.webhook_deliveries.rowid;
CREATE TABLE public.webhooks (
    rowid bigint NOT NULL,
    updated_at bigint NOT NULL,
    name character varying NOT NULL,
    url character varying NOT NULL,
    events jsonb NOT NULL,
    secret character varying NOT NULL,
    previous_secret character varying,
    previous_until bigint,
    disabled_at bigint,
    project character varying(64) NOT NULL,
    id character varying(64) NOT NULL,
    created_at bigint NOT NULL
);
CREATE SEQUENCE public.webhooks_rowid_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.webhooks_rowid_seq OWNED BY public.webhooks.rowid;
ALTER TABLE ONLY public.answers ALTER COLUMN rowid SET DEFAULT nextval('public.answers_rowid_seq'::regclass);
ALTER TABLE ONLY public.audit ALTER COLUMN rowid SET DEFAULT nextval('public.audit_rowid_seq'::regclass);
ALTER TABLE ONLY public.batches ALTER COLUMN rowid SET DEFAULT nextval('public.batches_rowid_seq'::regclass);
ALTER TABLE ONLY public.checkpoints ALTER COLUMN rowid SET DEFAULT nextval('public.checkpoints_rowid_seq'::regclass);
ALTER TABLE ONLY public.eval_items ALTER COLUMN rowid SET DEFAULT nextval('public.eval_items_rowid_seq'::regclass);
ALTER TABLE ONLY public.eval_runs ALTER COLUMN rowid SET DEFAULT nextval('public.eval_runs_rowid_seq'::regclass);
ALTER TABLE ONLY public.evals ALTER COLUMN rowid SET DEFAULT nextval('public.evals_rowid_seq'::regclass);
ALTER TABLE ONLY public.events ALTER COLUMN rowid SET DEFAULT nextval('public.events_rowid_seq'::regclass);
ALTER TABLE ONLY public.files ALTER COLUMN rowid SET DEFAULT nextval('public.files_rowid_seq'::regclass);
ALTER TABLE ONLY public.installation ALTER COLUMN rowid SET DEFAULT nextval('public.installation_rowid_seq'::regclass);
ALTER TABLE ONLY public.jobs ALTER COLUMN rowid SET DEFAULT nextval('public.jobs_rowid_seq'::regclass);
ALTER TABLE ONLY public.keys ALTER COLUMN rowid SET DEFAULT nextval('public.keys_rowid_seq'::regclass);
ALTER TABLE ONLY public.permissions ALTER COLUMN rowid SET DEFAULT nextval('public.permissions_rowid_seq'::regclass);
ALTER TABLE ONLY public.served_models ALTER COLUMN rowid SET DEFAULT nextval('public.served_models_rowid_seq'::regclass);
ALTER TABLE ONLY public.sign_ins ALTER COLUMN rowid SET DEFAULT nextval('public.sign_ins_rowid_seq'::regclass);
ALTER TABLE ONLY public.upload_parts ALTER COLUMN rowid SET DEFAULT nextval('public.upload_parts_rowid_seq'::regclass);
ALTER TABLE ONLY public.uploads ALTER COLUMN rowid SET DEFAULT nextval('public.uploads_rowid_seq'::regclass);
ALTER TABLE ONLY public.webhook_deliveries ALTER COLUMN rowid SET DEFAULT nextval('public.webhook_deliveries_rowid_seq'::regclass);
ALTER TABLE ONLY public.webhooks ALTER COLUMN rowid SET DEFAULT nextval('public.webhooks_rowid_seq'::regclass);
INSERT INTO public.alembic_version VALUES ('first_release');
INSERT INTO public.answers VALUES (1, 'resp_1', 1764028800, 'team', 'response', 'tiny', '[]', '{"id": "resp_1"}', NULL, 2764028800);
INSERT INTO public.audit VALUES (1, 1764028800, 'key_1', 'team', 'file.create', 'file-0000000000000001');
INSERT INTO public.batches VALUES (1, '/v1/chat/completions', 'file-0000000000000001', '24h', 'completed', NULL, NULL, NULL, NULL, '{"completed_at": 1764028800}', NULL, '{"total": 1, "failed": 0, "completed": 1}', NULL, NULL, NULL, NULL, 'key_1', NULL, NULL, 0, 'team', 'batch_1', 1764028800);
INSERT INTO public.checkpoints VALUES (1, 'ftjob-1', 10, 'ft:tiny:team::1:ckpt-step-10', '{"step": 10}', 'models/1-10', 'ftckpt_1', 1764028830);
INSERT INTO public.eval_items VALUES (1, 'outputitem_1', 1764028800, 'team', 'evalrun_1', 0, 'pass', '{"q": "휴가"}', '{}', '[]');
INSERT INTO public.eval_runs VALUES (1, 'evalrun_1', 1764028800, 'team', 'eval_1', 'first', 'completed', '{"type": "jsonl"}', NULL, '{"total": 1}', NULL, NULL, 'key_1', NULL, NULL, 0);
INSERT INTO public.evals VALUES (1, 'eval_1', 1764028800, 'team', 'facts', '{"type": "custom"}', '[]', NULL);
INSERT INTO public.events VALUES (1, 'ftjob-1', 'info', 'Fine-tuning job started', 'message', NULL, 'ftevent-1', 1764028801);
INSERT INTO public.files VALUES (1, 23, '연차.jsonl', 'fine-tune', 'processed', NULL, NULL, 'b055faa86edb67318ea1db1e1529d7be88de12e9caf02a104390b5cf2fe1c11b', 'key_1', '{"rows": 1}', 'team', 'file-0000000000000001', 1764028800);
INSERT INTO public.installation VALUES (1, '5f0c2a9be1d34786');
INSERT INTO public.jobs VALUES (1, 1, 1764028801, 1764028860, 'succeeded', 'tiny', 'tiny', 'file-0000000000000001', NULL, 'supervised', '{"type": "supervised"}', '{"n_epochs": 1}', 7, NULL, NULL, NULL, 100, NULL, 'ft:tiny:team::1', '[]', NULL, NULL, 'key_1', NULL, NULL, NULL, 1, 'team', 'ftjob-1', 1764028800);
INSERT INTO public.keys VALUES (1, '내 키', 'team', '["inference", "training"]', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 1764028805, NULL, 'key_1', 1764028800);
INSERT INTO public.permissions VALUES (1, 'ft:tiny:team::1', 'other', 'cp_1', 1764028800);
INSERT INTO public.served_models VALUES (1, 'ft:tiny:team::1', 'team', 1764028860, 'ftjob-1', 'store/catalog/tiny', 'adapter', 'models/1', NULL, NULL);
INSERT INTO public.sign_ins VALUES ('key_1', 'Firefox', 1764028809, 1, 'session_1', 1764028800);
INSERT INTO public.upload_parts VALUES (1, 'upload_1', 4, 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'part_1', 1764028800);
INSERT INTO public.uploads VALUES (1, 4, 'b.jsonl', 'text/jsonl', 'fine-tune', 'pending', 1764032400, NULL, NULL, 'key_1', 'team', 'upload_1', 1764028800);
INSERT INTO public.webhook_deliveries VALUES (1, 'we_1', 'fine_tuning.job.succeeded', '{"id": "ftjob-1"}', 'delivered', 1764028800, 1764028801, NULL, NULL, NULL, 1, 'evt_1', 1764028800);
INSERT INTO public.webhooks VALUES (1, 1764028800, 'ci', 'https://example.com/hook', '["fine_tuning.job.succeeded"]', 'whsec_x', NULL, NULL, NULL, 'team', 'we_1', 1764028800);
SELECT pg_catalog.setval('public.answers_rowid_seq', 1, true);
SELECT pg_catalog.setval('public.audit_rowid_seq', 1, true);
SELECT pg_catalog.setval('public.batches_rowid_seq', 1, true);
SELECT pg_catalog.setval('public.checkpoints_rowid_seq', 1, true);
SELECT pg_catalog.setval('public.eval_items_rowid_seq', 1, true);
SELECT pg_catalog.setval('public.eval_runs_rowid_seq', 1, true);
SELECT pg_catalog.setval('public.evals_rowid_seq', 1, true);
SELECT pg_catalog.setval('public.events_rowid_seq', 1, true);
SELECT pg_catalog.setval('public.files_rowid_seq', 1, true);
SELECT pg_catalog.setval('public.installation_rowid_seq', 1, true);
SELECT pg_catalog.setval('public.jobs_rowid_seq', 1, true);
SELECT pg_catalog.setval('public.keys_rowid_seq', 1, true);
SELECT pg_catalog.setval('public.permissions_rowid_seq', 1, true);
SELECT pg_catalog.setval('public.served_models_rowid_seq', 1, true);
SELECT pg_catalog.setval('public.sign_ins_rowid_seq', 1, true);
SELECT pg_catalog.setval('public.upload_parts_rowid_seq', 1, true);
SELECT pg_catalog.setval('public.uploads_rowid_seq', 1, true);
SELECT pg_catalog.setval('public.webhook_deliveries_rowid_seq', 1, true);
SELECT pg_catalog.setval('public.webhooks_rowid_seq', 1, true);
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.answers
    ADD CONSTRAINT answers_id_key UNIQUE (id);
ALTER TABLE ONLY public.answers
    ADD CONSTRAINT answers_pkey PRIMARY KEY (rowid);
ALTER TABLE ONLY public.audit
    ADD CONSTRAINT audit_pkey PRIMARY KEY (rowid);
ALTER TABLE ONLY public.batches
    ADD CONSTRAINT batches_id_key UNIQUE (id);
ALTER TABLE ONLY public.batches
    ADD CONSTRAINT batches_pkey PRIMARY KEY (rowid);
ALTER TABLE ONLY public.checkpoints
    ADD CONSTRAINT checkpoints_id_key UNIQUE (id);
ALTER TABLE ONLY public.checkpoints
    ADD CONSTRAINT checkpoints_pkey PRIMARY KEY (rowid);
ALTER TABLE ONLY public.eval_items
    ADD CONSTRAINT eval_items_id_key UNIQUE (id);
ALTER TABLE ONLY public.eval_items
    ADD CONSTRAINT eval_items_pkey PRIMARY KEY (rowid);
ALTER TABLE ONLY public.eval_runs
    ADD CONSTRAINT eval_runs_id_key UNIQUE (id);
ALTER TABLE ONLY public.eval_runs
    ADD CONSTRAINT eval_runs_pkey PRIMARY KEY (rowid);
ALTER TABLE ONLY public.evals
    ADD CONSTRAINT evals_id_key UNIQUE (id);
ALTER TABLE ONLY public.evals
    ADD CONSTRAINT evals_pkey PRIMARY KEY (rowid);
ALTER TABLE ONLY public.events
    ADD CONSTRAINT events_id_key UNIQUE (id);
ALTER TABLE ONLY public.events
    ADD CONSTRAINT events_pkey PRIMARY KEY (rowid);
ALTER TABLE ONLY public.files
    ADD CONSTRAINT files_id_key UNIQUE (id);
ALTER TABLE ONLY public.files
    ADD CONSTRAINT files_pkey PRIMARY KEY (rowid);
ALTER TABLE ONLY public.installation
    ADD CONSTRAINT installation_id_key UNIQUE (id);
ALTER TABLE ONLY public.installation
    ADD CONSTRAINT installation_pkey PRIMARY KEY (rowid);
ALTER TABLE ONLY public.jobs
    ADD CONSTRAINT jobs_id_key UNIQUE (id);
ALTER TABLE ONLY public.jobs
    ADD CONSTRAINT jobs_pkey PRIMARY KEY (rowid);
ALTER TABLE ONLY public.keys
    ADD CONSTRAINT keys_hash_key UNIQUE (hash);
ALTER TABLE ONLY public.keys
    ADD CONSTRAINT keys_id_key UNIQUE (id);
ALTER TABLE ONLY public.keys
    ADD CONSTRAINT keys_pkey PRIMARY KEY (rowid);
ALTER TABLE ONLY public.permissions
    ADD CONSTRAINT permissions_id_key UNIQUE (id);
ALTER TABLE ONLY public.permissions
    ADD CONSTRAINT permissions_model_project_key UNIQUE (model, project);
ALTER TABLE ONLY public.permissions
    ADD CONSTRAINT permissions_pkey PRIMARY KEY (rowid);
ALTER TABLE ONLY public.served_models
    ADD CONSTRAINT served_models_name_key UNIQUE (name);
ALTER TABLE ONLY public.served_models
    ADD CONSTRAINT served_models_pkey PRIMARY KEY (rowid);
ALTER TABLE ONLY public.sign_ins
    ADD CONSTRAINT sign_ins_id_key UNIQUE (id);
ALTER TABLE ONLY public.sign_ins
    ADD CONSTRAINT sign_ins_pkey PRIMARY KEY (rowid);
ALTER TABLE ONLY public.upload_parts
    ADD CONSTRAINT upload_parts_id_key UNIQUE (id);
ALTER TABLE ONLY public.upload_parts
    ADD CONSTRAINT upload_parts_pkey PRIMARY KEY (rowid);
ALTER TABLE ONLY public.uploads
    ADD CONSTRAINT uploads_id_key UNIQUE (id);
ALTER TABLE ONLY public.uploads
    ADD CONSTRAINT uploads_pkey PRIMARY KEY (rowid);
ALTER TABLE ONLY public.webhook_deliveries
    ADD CONSTRAINT webhook_deliveries_id_key UNIQUE (id);
ALTER TABLE ONLY public.webhook_deliveries
    ADD CONSTRAINT webhook_deliveries_pkey PRIMARY KEY (rowid);
ALTER TABLE ONLY public.webhooks
    ADD CONSTRAINT webhooks_id_key UNIQUE (id);
ALTER TABLE ONLY public.webhooks
    ADD CONSTRAINT webhooks_pkey PRIMARY KEY (rowid);
CREATE INDEX events_of_job ON public.events USING btree (job_id, created_at, rowid);
CREATE INDEX ix_answers_expires_at ON public.answers USING btree (expires_at);
CREATE INDEX ix_answers_project ON public.answers USING btree (project);
CREATE INDEX ix_batches_project ON public.batches USING btree (project);
CREATE INDEX ix_batches_status ON public.batches USING btree (status);
CREATE INDEX ix_checkpoints_job_id ON public.checkpoints USING btree (job_id);
CREATE INDEX ix_checkpoints_model_name ON public.checkpoints USING btree (model_name);
CREATE INDEX ix_eval_items_project ON public.eval_items USING btree (project);
CREATE INDEX ix_eval_items_run_id ON public.eval_items USING btree (run_id);
CREATE INDEX ix_eval_runs_eval_id ON public.eval_runs USING btree (eval_id);
CREATE INDEX ix_eval_runs_project ON public.eval_runs USING btree (project);
CREATE INDEX ix_eval_runs_status ON public.eval_runs USING btree (status);
CREATE INDEX ix_evals_project ON public.evals USING btree (project);
CREATE INDEX ix_files_expires_at ON public.files USING btree (expires_at);
CREATE INDEX ix_files_project ON public.files USING btree (project);
CREATE INDEX ix_jobs_body_hash ON public.jobs USING btree (body_hash);
CREATE INDEX ix_jobs_project ON public.jobs USING btree (project);
CREATE INDEX ix_permissions_model ON public.permissions USING btree (model);
CREATE INDEX ix_permissions_project ON public.permissions USING btree (project);
CREATE INDEX ix_served_models_job_id ON public.served_models USING btree (job_id);
CREATE INDEX ix_served_models_project ON public.served_models USING btree (project);
CREATE INDEX ix_sign_ins_key_id ON public.sign_ins USING btree (key_id);
CREATE INDEX ix_upload_parts_upload_id ON public.upload_parts USING btree (upload_id);
CREATE INDEX ix_uploads_expires_at ON public.uploads USING btree (expires_at);
CREATE INDEX ix_uploads_project ON public.uploads USING btree (project);
CREATE INDEX ix_webhook_deliveries_status ON public.webhook_deliveries USING btree (status);
CREATE INDEX ix_webhook_deliveries_webhook_id ON public.webhook_deliveries USING btree (webhook_id);
CREATE INDEX ix_webhooks_project ON public.webhooks USING btree (project);
CREATE INDEX jobs_by_status ON public.jobs USING btree (status, seq);
ALTER TABLE ONLY public.checkpoints
    ADD CONSTRAINT checkpoints_job_id_fkey FOREIGN KEY (job_id) REFERENCES public.jobs(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.eval_items
    ADD CONSTRAINT eval_items_run_id_fkey FOREIGN KEY (run_id) REFERENCES public.eval_runs(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.eval_runs
    ADD CONSTRAINT eval_runs_eval_id_fkey FOREIGN KEY (eval_id) REFERENCES public.evals(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.events
    ADD CONSTRAINT events_job_id_fkey FOREIGN KEY (job_id) REFERENCES public.jobs(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.upload_parts
    ADD CONSTRAINT upload_parts_upload_id_fkey FOREIGN KEY (upload_id) REFERENCES public.uploads(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.webhook_deliveries
    ADD CONSTRAINT webhook_deliveries_webhook_id_fkey FOREIGN KEY (webhook_id) REFERENCES public.webhooks(id) ON DELETE CASCADE;
