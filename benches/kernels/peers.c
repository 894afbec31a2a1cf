// The peers' side of the kernel benches: Debian's libraries behind functions that take whole frames.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <opus/opus.h>
#include <samplerate.h>
#include <soxr.h>
#include <spandsp.h>
#include <speex/speex_resampler.h>
#include <srtp2/srtp.h>

// ---- G.711: spandsp's inline functions, and the plain 256-entry table

void peer_ulaw_encode(const int16_t *restrict pcm, uint8_t *restrict out, size_t n) {
    for (size_t i = 0; i < n; i++) out[i] = linear_to_ulaw(pcm[i]);
}

void peer_alaw_encode(const int16_t *restrict pcm, uint8_t *restrict out, size_t n) {
    for (size_t i = 0; i < n; i++) out[i] = linear_to_alaw(pcm[i]);
}

void peer_ulaw_decode(const uint8_t *restrict in, int16_t *restrict pcm, size_t n) {
    for (size_t i = 0; i < n; i++) pcm[i] = ulaw_to_linear(in[i]);
}

void peer_alaw_decode(const uint8_t *restrict in, int16_t *restrict pcm, size_t n) {
    for (size_t i = 0; i < n; i++) pcm[i] = alaw_to_linear(in[i]);
}

void peer_table_convert(const uint8_t *restrict table, const uint8_t *restrict in, uint8_t *restrict out, size_t n) {
    for (size_t i = 0; i < n; i++) out[i] = table[in[i]];
}

uint8_t peer_ulaw_to_alaw(uint8_t code) { return ulaw_to_alaw(code); }

uint8_t peer_alaw_to_ulaw(uint8_t code) { return alaw_to_ulaw(code); }

// ---- DTMF: spandsp

void *peer_dtmf_new(int filter_dial_tone) {
    dtmf_rx_state_t *state = dtmf_rx_init(NULL, NULL, NULL);
    if (state && filter_dial_tone) dtmf_rx_parms(state, 1, -1, -1, -99);
    return state;
}

void peer_dtmf_process(void *state, const int16_t *pcm, size_t n) { dtmf_rx(state, pcm, (int) n); }

// `digits` has room for 129 bytes.
size_t peer_dtmf_digits(void *state, char *digits) { return dtmf_rx_get(state, digits, 128); }

void peer_dtmf_free(void *state) { dtmf_rx_free(state); }

// ---- Fax and modem tones: spandsp

int peer_modem_tone_kind(int which) {
    static const int kinds[] = {MODEM_CONNECT_TONES_FAX_CNG, MODEM_CONNECT_TONES_ANS, MODEM_CONNECT_TONES_ANSAM};
    return kinds[which];
}

void *peer_modem_tone_new(int which) {
    return modem_connect_tones_rx_init(NULL, peer_modem_tone_kind(which), NULL, NULL);
}

void peer_modem_tone_process(void *state, const int16_t *pcm, size_t n) {
    modem_connect_tones_rx(state, pcm, (int) n);
}

int peer_modem_tone_found(void *state) { return modem_connect_tones_rx_get(state); }

void peer_modem_tone_free(void *state) { modem_connect_tones_rx_free(state); }

// ---- G.722 at 64 kbit/s: spandsp

void *peer_g722_encoder_new(void) { return g722_encode_init(NULL, 64000, 0); }

size_t peer_g722_encode(void *state, const int16_t *pcm, size_t n, uint8_t *out) {
    return (size_t) g722_encode(state, out, pcm, (int) n);
}

void peer_g722_encoder_free(void *state) { g722_encode_free(state); }

void *peer_g722_decoder_new(void) { return g722_decode_init(NULL, 64000, 0); }

size_t peer_g722_decode(void *state, const uint8_t *in, size_t n, int16_t *pcm) {
    return (size_t) g722_decode(state, pcm, in, (int) n);
}

void peer_g722_decoder_free(void *state) { g722_decode_free(state); }

// ---- Concealment: spandsp

void *peer_plc_new(void) { return plc_init(NULL); }

void peer_plc_receive(void *state, int16_t *pcm, size_t n) { plc_rx(state, pcm, (int) n); }

void peer_plc_conceal(void *state, int16_t *pcm, size_t n) { plc_fillin(state, pcm, (int) n); }

void peer_plc_free(void *state) { plc_free(state); }

// ---- Resamplers: speexdsp, soxr, libsamplerate

enum { SPEEX, SOXR, SRC };

typedef struct {
    int kind;
    double ratio;
    void *state;
    float *in, *out;
    size_t room;
} resampler;

void *peer_resampler_new(int kind, int quality, int from, int to, size_t room) {
    resampler *r = calloc(1, sizeof *r);
    if (!r) return NULL;
    int error = 0;
    *r = (resampler) {.kind = kind, .ratio = (double) to / from, .room = room};
    if (kind == SPEEX) {
        r->state = speex_resampler_init(1, (spx_uint32_t) from, (spx_uint32_t) to, quality, &error);
    } else if (kind == SOXR) {
        soxr_io_spec_t io = soxr_io_spec(SOXR_INT16_I, SOXR_INT16_I);
        soxr_quality_spec_t recipe = soxr_quality_spec((unsigned long) quality, 0);
        soxr_runtime_spec_t threads = soxr_runtime_spec(1);
        soxr_error_t why = NULL;
        r->state = soxr_create(from, to, 1, &why, &io, &recipe, &threads);
    } else {
        r->state = src_new(quality, 1, &error);
        r->in = calloc(room, sizeof *r->in);
        r->out = calloc(room, sizeof *r->out);
    }
    return r->state ? r : NULL;
}

// How many samples came out.
size_t peer_resampler_process(void *state, const int16_t *in, size_t n, int16_t *out, size_t room) {
    resampler *r = state;
    if (r->kind == SPEEX) {
        spx_uint32_t taken = (spx_uint32_t) n, made = (spx_uint32_t) room;
        speex_resampler_process_int(r->state, 0, in, &taken, out, &made);
        return made;
    }
    if (r->kind == SOXR) {
        size_t made = 0;
        soxr_process(r->state, in, n, NULL, out, room, &made);
        return made;
    }
    if (n > r->room || room > r->room) return 0;
    src_short_to_float_array(in, r->in, (int) n);
    SRC_DATA data = {.data_in = r->in, .data_out = r->out, .input_frames = (long) n, .output_frames = (long) room,
                     .src_ratio = r->ratio};
    if (src_process(r->state, &data)) return 0;
    src_float_to_short_array(r->out, out, (int) data.output_frames_gen);
    return (size_t) data.output_frames_gen;
}

void peer_resampler_free(void *state) {
    resampler *r = state;
    if (r->kind == SPEEX) speex_resampler_destroy(r->state);
    if (r->kind == SOXR) soxr_delete(r->state);
    if (r->kind == SRC) src_delete(r->state);
    free(r->in);
    free(r->out);
    free(r);
}

// ---- Mixing: plain C that a compiler vectorises

// Members lie one after another; `sum` has room for one frame.
void peer_mix_minus_self(const int16_t *restrict in, int16_t *restrict out, int32_t *restrict sum, size_t members,
                         size_t frame) {
    memset(sum, 0, frame * sizeof *sum);
    for (size_t k = 0; k < members; k++) {
        const int16_t *restrict x = in + k * frame;
        for (size_t i = 0; i < frame; i++) sum[i] += x[i];
    }
    for (size_t k = 0; k < members; k++) {
        const int16_t *restrict x = in + k * frame;
        int16_t *restrict y = out + k * frame;
        for (size_t i = 0; i < frame; i++) {
            int32_t v = sum[i] - x[i];
            y[i] = (int16_t) (v > 32767 ? 32767 : v < -32768 ? -32768 : v);
        }
    }
}

// ---- Opus: Debian's library, apart from any that the engine links

static struct {
    __typeof__(&opus_encoder_create) encoder_create;
    __typeof__(&opus_encoder_ctl) encoder_ctl;
    __typeof__(&opus_encode) encode;
    __typeof__(&opus_encoder_destroy) encoder_destroy;
    __typeof__(&opus_decoder_create) decoder_create;
    __typeof__(&opus_decode) decode;
    __typeof__(&opus_decoder_destroy) decoder_destroy;
    __typeof__(&opus_get_version_string) version;
} opus;

static int opus_ready(void) {
    static int state; // 0 unknown, 1 there, -1 not
    if (state) return state > 0;
    void *library = dlopen("libopus.so.0", RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
    state = -1;
    if (!library) return 0;
    opus.encoder_create = dlsym(library, "opus_encoder_create");
    opus.encoder_ctl = dlsym(library, "opus_encoder_ctl");
    opus.encode = dlsym(library, "opus_encode");
    opus.encoder_destroy = dlsym(library, "opus_encoder_destroy");
    opus.decoder_create = dlsym(library, "opus_decoder_create");
    opus.decode = dlsym(library, "opus_decode");
    opus.decoder_destroy = dlsym(library, "opus_decoder_destroy");
    opus.version = dlsym(library, "opus_get_version_string");
    if (opus.encoder_create && opus.encoder_ctl && opus.encode && opus.encoder_destroy && opus.decoder_create &&
        opus.decode && opus.decoder_destroy && opus.version)
        state = 1;
    return state > 0;
}

void *peer_opus_encoder_new(int rate, int bitrate, int complexity) {
    int error = 0;
    if (!opus_ready()) return NULL;
    OpusEncoder *encoder = opus.encoder_create(rate, 1, OPUS_APPLICATION_VOIP, &error);
    if (!encoder) return NULL;
    opus.encoder_ctl(encoder, OPUS_SET_BITRATE(bitrate));
    opus.encoder_ctl(encoder, OPUS_SET_COMPLEXITY(complexity));
    return encoder;
}

int peer_opus_encode(void *encoder, const int16_t *pcm, size_t n, uint8_t *out, size_t room) {
    return opus.encode(encoder, pcm, (int) n, out, (opus_int32) room);
}

void peer_opus_encoder_free(void *encoder) { opus.encoder_destroy(encoder); }

void *peer_opus_decoder_new(int rate) {
    int error = 0;
    return opus_ready() ? opus.decoder_create(rate, 1, &error) : NULL;
}

int peer_opus_decode(void *decoder, const uint8_t *packet, size_t length, int16_t *pcm, size_t room) {
    return opus.decode(decoder, packet, (opus_int32) length, pcm, (int) room, 0);
}

void peer_opus_decoder_free(void *decoder) { opus.decoder_destroy(decoder); }

// ---- SRTP: libsrtp2

// The key is 16 octets and the salt behind it: 14 octets (CM), 12 (GCM). Every SSRC is taken.
void *peer_srtp_new(int gcm, int inbound, const uint8_t *key_and_salt) {
    static int ready;
    if (!ready && srtp_init()) return NULL;
    ready = 1;
    srtp_policy_t policy;
    memset(&policy, 0, sizeof policy);
    if (gcm)
        srtp_crypto_policy_set_aes_gcm_128_16_auth(&policy.rtp);
    else
        srtp_crypto_policy_set_aes_cm_128_hmac_sha1_80(&policy.rtp);
    policy.rtcp = policy.rtp;
    policy.ssrc.type = inbound ? ssrc_any_inbound : ssrc_any_outbound;
    policy.key = (unsigned char *) key_and_salt;
    srtp_t session = NULL;
    return srtp_create(&session, &policy) ? NULL : session;
}

// The new length, or -1. There is room for SRTP_MAX_TRAILER_LEN behind the packet.
int peer_srtp_protect(void *session, uint8_t *packet, int length) {
    return srtp_protect(session, packet, &length) ? -1 : length;
}

int peer_srtp_unprotect(void *session, uint8_t *packet, int length) {
    return srtp_unprotect(session, packet, &length) ? -1 : length;
}

void peer_srtp_free(void *session) { srtp_dealloc(session); }

// ---- Versions, for the report

const char *peer_version(int which) {
    switch (which) {
    case 0: return soxr_version();
    case 1: return src_get_version();
    case 2: return srtp_get_version_string();
    case 3: return opus_ready() ? opus.version() : "libopus is not here";
    default: return "";
    }
}
