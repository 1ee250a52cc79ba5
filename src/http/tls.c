/*
 * TLS by GnuTLS, which libmicrohttpd uses.
 *
 * Invariant: tls->identities is ordered by age, the last is in force. Each counts the connections
 * that began while it was in force. One that is not in force any more is freed when neither it nor
 * any older one counts a connection: only those can have been shown it.
 */
#include "http/tls.h"

#include <errno.h>
#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/list.h"
#include "base/log.h"

#define FILE_BYTES_MAX (1u << 20)
#define CHAIN_MAX      16
#define KEY_ID_MAX     64
#define SUBJECT_MAX    256

/* Nothing older than TLS 1.2; the rest is GnuTLS's and the system's choice. */
#define PRIORITIES "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

struct identity {
	struct list node;
	uint64_t connections;
	gnutls_pcert_st chain[CHAIN_MAX];
	unsigned int chain_length;
	gnutls_privkey_t key;
	gnutls_x509_trust_list_t clients; /* NULL: a client needs no certificate */
};

struct tls {
	struct list identities;
};

/* For the callbacks, which are told the session only. */
static struct tls *the_tls;

static struct identity *in_force(const struct tls *tls)
{
	return container_of(tls->identities.previous, struct identity, node);
}

/* --- reading ---------------------------------------------------------------------------------- */

static int fail_file(struct error *error, const char *field, const char *path, const char *reason)
{
	return error_set(error, ERROR_INVALID, field, "%.200s: %s", path, reason);
}

/* data->data is the caller's to free. */
static int read_pem(const char *field, const char *path, gnutls_datum_t *data, struct error *error)
{
	char *text = NULL;
	size_t length = 0;
	int result = fd_read_file(path, FILE_BYTES_MAX, &text, &length);

	if (result < 0)
		return error_set(error, ERROR_INVALID, field,
				 "%.200s: found a file that cannot be read (%s); expected one in "
				 "PEM",
				 path, strerror(-result));
	memcpy(&data->data, &text, sizeof(text));
	data->size = (unsigned int)length;
	return 0;
}

static int read_chain(struct identity *identity, const char *path, struct error *error)
{
	gnutls_datum_t data = {0};
	unsigned int length = CHAIN_MAX;
	int result = read_pem("server.tls.certificate", path, &data, error);

	if (result < 0)
		return result;
	int status = gnutls_pcert_list_import_x509_raw(identity->chain, &length, &data,
						       GNUTLS_X509_FMT_PEM, 0);
	free(data.data);
	if (status < 0)
		return error_set(error, ERROR_INVALID, "server.tls.certificate",
				 "%.200s: found no certificates (%s); expected 1 to %d in PEM, the "
				 "service's own first",
				 path, gnutls_strerror(status), CHAIN_MAX);
	identity->chain_length = length;
	return 0;
}

static int read_key(struct identity *identity, const char *path, struct error *error)
{
	static const char field[] = "server.tls.key";
	gnutls_datum_t data = {0};
	struct stat file;

	if (stat(path, &file) == 0 && file.st_mode & (S_IROTH | S_IWOTH))
		return fail_file(error, field, path,
				 "found a private key that anybody on this machine may read or "
				 "write; expected one that is kept: chmod o-rw");
	int result = read_pem(field, path, &data, error);
	if (result < 0)
		return result;
	int status = gnutls_privkey_init(&identity->key);
	if (status == 0)
		status = gnutls_privkey_import_x509_raw(identity->key, &data, GNUTLS_X509_FMT_PEM,
							NULL, 0);
	explicit_bzero(data.data, data.size);
	free(data.data);
	if (status < 0)
		return error_set(
			error, ERROR_INVALID, field,
			"%.200s: found no private key (%s); expected one in PEM, without a "
			"passphrase",
			path, gnutls_strerror(status));
	return 0;
}

/* Whether the key is that of the first certificate. */
static bool key_fits(const struct identity *identity)
{
	unsigned char of_certificate[KEY_ID_MAX];
	unsigned char of_key[KEY_ID_MAX];
	size_t certificate_length = sizeof(of_certificate);
	size_t key_length = sizeof(of_key);
	gnutls_pubkey_t public_key;
	bool fits = false;

	if (gnutls_pubkey_init(&public_key) < 0)
		return false;
	if (gnutls_pubkey_import_privkey(public_key, identity->key, 0, 0) == 0 &&
	    gnutls_pubkey_get_key_id(public_key, 0, of_key, &key_length) == 0 &&
	    gnutls_pubkey_get_key_id(identity->chain[0].pubkey, 0, of_certificate,
				     &certificate_length) == 0)
		fits = key_length == certificate_length &&
		       memcmp(of_key, of_certificate, key_length) == 0;
	gnutls_pubkey_deinit(public_key);
	return fits;
}

static int read_clients(struct identity *identity, const char *path, struct error *error)
{
	static const char field[] = "server.tls.client_ca";
	gnutls_datum_t data = {0};
	int result = read_pem(field, path, &data, error);

	if (result < 0)
		return result;
	int count = gnutls_x509_trust_list_init(&identity->clients, 0);
	if (count == 0)
		count = gnutls_x509_trust_list_add_trust_mem(identity->clients, &data, NULL,
							     GNUTLS_X509_FMT_PEM, 0, 0);
	free(data.data);
	if (count > 0)
		return 0;
	return fail_file(error, field, path,
			 "found no certificate; expected those of who signs clients' certificates, "
			 "in PEM");
}

static void identity_free(struct identity *identity)
{
	for (unsigned int i = 0; i < identity->chain_length; i++)
		gnutls_pcert_deinit(&identity->chain[i]);
	if (identity->key)
		gnutls_privkey_deinit(identity->key);
	if (identity->clients)
		gnutls_x509_trust_list_deinit(identity->clients, 1);
	list_remove(&identity->node);
	free(identity);
}

/* NULL and *error if it cannot be had. */
static struct identity *identity_load(const struct config *config, struct error *error)
{
	struct identity *identity = calloc(1, sizeof(*identity));
	int result;

	if (!identity) {
		(void)error_set(error, ERROR_INTERNAL, "server.tls", "not enough memory");
		return NULL;
	}
	list_init(&identity->node);
	result = read_chain(identity, config->tls_certificate, error);
	if (result == 0)
		result = read_key(identity, config->tls_key, error);
	if (result == 0 && !key_fits(identity))
		result = fail_file(error, "server.tls.key", config->tls_key,
				   "found a key that is not that of the certificate; expected its "
				   "own");
	if (result == 0 && config->tls_client_ca)
		result = read_clients(identity, config->tls_client_ca, error);
	if (result == 0)
		return identity;
	identity_free(identity);
	return NULL;
}

/* Whose it is, and until when. */
static void log_identity(const struct identity *identity, const char *path)
{
	gnutls_x509_crt_t certificate;
	char subject[SUBJECT_MAX] = "";
	size_t length = sizeof(subject);
	char expires_text[CLOCK_RFC3339_SIZE];
	gnutls_pcert_st first = identity->chain[0]; /* the function below takes no constant */

	if (gnutls_pcert_export_x509(&first, &certificate) < 0)
		return;
	time_t expires = gnutls_x509_crt_get_expiration_time(certificate);
	if (gnutls_x509_crt_get_dn(certificate, subject, &length) < 0)
		subject[0] = '\0';
	gnutls_x509_crt_deinit(certificate);
	bool expired = expires < time(NULL);
	log_event(expired ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO,
		  expired ? "certificate_expired" : "certificate", log_str("file", path),
		  log_str("subject", subject),
		  log_str("expires", clock_rfc3339((int64_t)expires * NS_PER_S, expires_text)));
}

/* --- handshakes ------------------------------------------------------------------------------- */

/* The client's certificate, by those who may sign such. */
static int verify_client(gnutls_session_t session)
{
	struct identity *identity = in_force(the_tls);
	static unsigned char client[] = GNUTLS_KP_TLS_WWW_CLIENT;
	gnutls_typed_vdata_st purpose = {.type = GNUTLS_DT_KEY_PURPOSE_OID, .data = client};
	gnutls_x509_crt_t chain[CHAIN_MAX];
	unsigned int count = 0;
	unsigned int imported = 0;
	unsigned int status = GNUTLS_CERT_INVALID;
	const gnutls_datum_t *raw = gnutls_certificate_get_peers(session, &count);

	if (!identity->clients)
		return 0; /* none is wanted any more */
	if (!raw || count == 0 || count > CHAIN_MAX)
		return GNUTLS_E_CERTIFICATE_ERROR;
	while (imported < count && gnutls_x509_crt_init(&chain[imported]) == 0) {
		imported++;
		if (gnutls_x509_crt_import(chain[imported - 1], &raw[imported - 1],
					   GNUTLS_X509_FMT_DER) < 0)
			break;
		if (imported == count &&
		    gnutls_x509_trust_list_verify_crt2(identity->clients, chain, count, &purpose, 1,
						       0, &status, NULL) < 0)
			status = GNUTLS_CERT_INVALID;
	}
	for (unsigned int i = 0; i < imported; i++)
		gnutls_x509_crt_deinit(chain[i]);
	return status == 0 ? 0 : GNUTLS_E_CERTIFICATE_ERROR;
}

static int choose(gnutls_session_t session, const gnutls_datum_t *authorities, int authority_count,
		  const gnutls_pk_algorithm_t *algorithms, int algorithm_count,
		  gnutls_pcert_st **ret_chain, unsigned int *ret_length, gnutls_privkey_t *ret_key)
{
	struct identity *identity = in_force(the_tls);

	(void)authorities;
	(void)authority_count;
	(void)algorithms;
	(void)algorithm_count;
	if (identity->clients) {
		gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE);
		gnutls_session_set_verify_function(session, verify_client);
	}
	*ret_chain = identity->chain;
	*ret_length = identity->chain_length;
	*ret_key = identity->key;
	return 0;
}

void tls_options(const struct tls *tls, struct MHD_OptionItem options[static TLS_OPTIONS])
{
	static char priorities[] = PRIORITIES;
	gnutls_certificate_retrieve_function2 *callback = choose;

	(void)tls;
	options[0] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_CERT_CALLBACK, 0, NULL};
	memcpy(&options[0].ptr_value, &callback, sizeof(callback));
	options[1] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_PRIORITIES, 0, priorities};
	options[2] = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};
}

/* --- identities ------------------------------------------------------------------------------- */

static void drop_unused(struct tls *tls)
{
	struct identity *current = in_force(tls);

	list_for_each_safe (node, &tls->identities) {
		struct identity *identity = container_of(node, struct identity, node);
		if (identity == current || identity->connections > 0)
			return;
		identity_free(identity);
	}
}

void tls_connection_began(struct tls *tls, void **mark)
{
	struct identity *identity = in_force(tls);

	identity->connections++;
	*mark = identity;
}

void tls_connection_ended(struct tls *tls, void **mark)
{
	struct identity *identity = *mark;

	if (!identity)
		return;
	identity->connections--;
	*mark = NULL;
	drop_unused(tls);
}

int tls_reload(struct tls *tls, const struct config *config, struct error *error)
{
	struct identity *identity = identity_load(config, error);

	if (!identity)
		return -EINVAL;
	list_append(&tls->identities, &identity->node);
	drop_unused(tls);
	log_identity(identity, config->tls_certificate);
	return 0;
}

int tls_new(const struct config *config, struct tls **ret_tls, struct error *error)
{
	struct tls *tls;

	if (MHD_is_feature_supported(MHD_FEATURE_TLS) != MHD_YES)
		return error_set(error, ERROR_INVALID, "server.tls",
				 "found TLS asked for; this libmicrohttpd was built without it");
	tls = calloc(1, sizeof(*tls));
	if (!tls)
		return error_set(error, ERROR_INTERNAL, "server.tls", "not enough memory");
	list_init(&tls->identities);
	int result = tls_reload(tls, config, error);
	if (result < 0) {
		free(tls);
		return result;
	}
	the_tls = tls;
	*ret_tls = tls;
	return 0;
}

void tls_free(struct tls *tls)
{
	if (!tls)
		return;
	while (!list_empty(&tls->identities))
		identity_free(container_of(tls->identities.next, struct identity, node));
	if (the_tls == tls)
		the_tls = NULL;
	free(tls);
}
