/* The name table: big_vision's tensor, its dimensions by letter, and where safetensors keeps it.
 *   image tower: Y patch side, C channels, W width, P tokens, M mlp, A heads, B head size, L layers
 *   decoder:     D width, F mlp, N heads, K key heads, H head size, V vocabulary rows, J layers
 * hf_dims: the same letters in the order of the safetensors tensor; commas part its axes. The leading 1 or 2 of big_vision's
 * tensors does not appear there.
 * Gemma 1's post_attention_layernorm is the norm before the MLP; Gemma 2 has one of that name that really is after the attention. */
#include <string.h>

#include "weights/internal.h"

#define VIT "vision_tower.vision_model.encoder.layers.%zu."
#define EMB "vision_tower.vision_model.embeddings."
#define LLM "language_model.layers.%zu."
#define ENC "img/Transformer/encoderblock/"
#define MHA ENC "MultiHeadDotProductAttention_0/"
#define ONE(bv, d, st, h, hd) {.name = bv, .dims = d, .stacked = st, .hf = {h, NULL}, .hf_dims = hd}
#define FAM(f, bv, h) {.name = bv, .dims = "D", .stacked = PG_TEXT_LAYERS, .hf = {h, NULL}, .hf_dims = "D", .family = f}
#define TWO(bv, d, h0, h1, hd) {.name = bv, .dims = d, .stacked = PG_TEXT_LAYERS, .hf = {h0, h1}, .hf_dims = hd, .pieces = true}

const pg_name pg_names[] = {
    ONE("img/embedding/kernel", "YYCW", 0, EMB "patch_embedding.weight", "W,C,Y,Y"),
    ONE("img/embedding/bias", "W", 0, EMB "patch_embedding.bias", "W"),
    ONE("img/pos_embedding", "1PW", 0, EMB "position_embedding.weight", "P,W"),
    ONE(ENC "LayerNorm_0/scale", "W", PG_VIT_LAYERS, VIT "layer_norm1.weight", "W"),
    ONE(ENC "LayerNorm_0/bias", "W", PG_VIT_LAYERS, VIT "layer_norm1.bias", "W"),
    ONE(ENC "LayerNorm_1/scale", "W", PG_VIT_LAYERS, VIT "layer_norm2.weight", "W"),
    ONE(ENC "LayerNorm_1/bias", "W", PG_VIT_LAYERS, VIT "layer_norm2.bias", "W"),
    ONE(MHA "query/kernel", "WAB", PG_VIT_LAYERS, VIT "self_attn.q_proj.weight", "AB,W"),
    ONE(MHA "query/bias", "AB", PG_VIT_LAYERS, VIT "self_attn.q_proj.bias", "AB"),
    ONE(MHA "key/kernel", "WAB", PG_VIT_LAYERS, VIT "self_attn.k_proj.weight", "AB,W"),
    ONE(MHA "key/bias", "AB", PG_VIT_LAYERS, VIT "self_attn.k_proj.bias", "AB"),
    ONE(MHA "value/kernel", "WAB", PG_VIT_LAYERS, VIT "self_attn.v_proj.weight", "AB,W"),
    ONE(MHA "value/bias", "AB", PG_VIT_LAYERS, VIT "self_attn.v_proj.bias", "AB"),
    ONE(MHA "out/kernel", "ABW", PG_VIT_LAYERS, VIT "self_attn.out_proj.weight", "W,AB"),
    ONE(MHA "out/bias", "W", PG_VIT_LAYERS, VIT "self_attn.out_proj.bias", "W"),
    ONE(ENC "MlpBlock_0/Dense_0/kernel", "WM", PG_VIT_LAYERS, VIT "mlp.fc1.weight", "M,W"),
    ONE(ENC "MlpBlock_0/Dense_0/bias", "M", PG_VIT_LAYERS, VIT "mlp.fc1.bias", "M"),
    ONE(ENC "MlpBlock_0/Dense_1/kernel", "MW", PG_VIT_LAYERS, VIT "mlp.fc2.weight", "W,M"),
    ONE(ENC "MlpBlock_0/Dense_1/bias", "W", PG_VIT_LAYERS, VIT "mlp.fc2.bias", "W"),
    ONE("img/Transformer/encoder_norm/scale", "W", 0, "vision_tower.vision_model.post_layernorm.weight", "W"),
    ONE("img/Transformer/encoder_norm/bias", "W", 0, "vision_tower.vision_model.post_layernorm.bias", "W"),
    ONE("img/head/kernel", "WD", 0, "multi_modal_projector.linear.weight", "D,W"),
    ONE("img/head/bias", "D", 0, "multi_modal_projector.linear.bias", "D"),
    ONE("llm/embedder/input_embedding", "VD", 0, "language_model.embed_tokens.weight", "V,D"),
    ONE("llm/layers/attn/q_einsum/w", "NDH", PG_TEXT_LAYERS, LLM "self_attn.q_proj.weight", "NH,D"),
    TWO("llm/layers/attn/kv_einsum/w", "2KDH", LLM "self_attn.k_proj.weight", LLM "self_attn.v_proj.weight", "KH,D"),
    ONE("llm/layers/attn/attn_vec_einsum/w", "NHD", PG_TEXT_LAYERS, LLM "self_attn.o_proj.weight", "D,NH"),
    TWO("llm/layers/mlp/gating_einsum", "2DF", LLM "mlp.gate_proj.weight", LLM "mlp.up_proj.weight", "F,D"),
    ONE("llm/layers/mlp/linear", "FD", PG_TEXT_LAYERS, LLM "mlp.down_proj.weight", "D,F"),
    FAM(0, "llm/layers/pre_attention_norm/scale", LLM "input_layernorm.weight"),
    FAM(2, "llm/layers/post_attention_norm/scale", LLM "post_attention_layernorm.weight"),
    FAM(1, "llm/layers/pre_ffw_norm/scale", LLM "post_attention_layernorm.weight"),
    FAM(2, "llm/layers/pre_ffw_norm/scale", LLM "pre_feedforward_layernorm.weight"),
    FAM(2, "llm/layers/post_ffw_norm/scale", LLM "post_feedforward_layernorm.weight"),
    ONE("llm/final_norm/scale", "D", 0, "language_model.norm.weight", "D"),
};
const size_t pg_n_names = sizeof pg_names / sizeof *pg_names;

char *pg_layer_name(const char *format, size_t layer)
{
    const char *at = strstr(format, "%zu");
    return at ? pg_format("%.*s%zu%s", (int)(at - format), format, layer, at + 3) : pg_strdup(format);
}
