//! How many bytes of KV cache a block of tokens has, for models that people serve.
//!
//! Attention with grouped queries keeps, per token and layer, one key and one value vector for each KV head:
//!
//! ```text
//!   bytes a token = layers × KV heads × head size × 2 (key and value) × 2 (bytes of a 16-bit number)
//!   bytes a block = bytes a token × 512 tokens / tensor parallelism (each rank stores its own heads)
//! ```
//!
//! Multi-head latent attention (DeepSeek) keeps one compressed vector and one rotary part per token and layer for
//! all heads together; every rank has all of it, so tensor parallelism does not divide it:
//!
//! ```text
//!   bytes a token = layers × (compressed 512 + rotary 64) × 2
//! ```

use snowskin_protocol::ByteSize;
use std::str::FromStr;

/// Tokens of one block of the traces.
pub const TOKENS_PER_BLOCK: u64 = 512;
/// Bytes of a number in bfloat16.
const BYTES_PER_NUMBER: u64 = 2;

/// How a model's attention remembers a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attention {
    Grouped { kv_heads: u64, head_size: u64 },
    Latent { compressed: u64, rotary: u64 },
}

/// Name, layers, attention. The figures are those of the models' published `config.json`.
const MODELS: [(&str, u64, Attention); 8] = [
    ("llama-3.1-8b", 32, Attention::Grouped { kv_heads: 8, head_size: 128 }),
    ("llama-3.1-70b", 80, Attention::Grouped { kv_heads: 8, head_size: 128 }),
    ("llama-3.1-405b", 126, Attention::Grouped { kv_heads: 8, head_size: 128 }),
    ("mistral-7b", 32, Attention::Grouped { kv_heads: 8, head_size: 128 }),
    ("qwen2.5-7b", 28, Attention::Grouped { kv_heads: 4, head_size: 128 }),
    ("qwen3-32b", 64, Attention::Grouped { kv_heads: 8, head_size: 128 }),
    ("deepseek-v3", 61, Attention::Latent { compressed: 512, rotary: 64 }),
    ("deepseek-r1", 61, Attention::Latent { compressed: 512, rotary: 64 }),
];

/// A model, served with some tensor parallelism. Reads `llama-3.1-70b`, `llama-3.1-70b-tp8`, `deepseek-v3` …
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Model {
    name: &'static str,
    layers: u64,
    attention: Attention,
    ranks: u64,
}

/// Why a text names no model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// Nobody knows it.
    #[error(
        "no model is called \"{0}\": known are {1}, each with -tpN for tensor parallelism; or use --block-size"
    )]
    Unknown(String, String),
    /// Heads cannot be shared out evenly.
    #[error("\"{0}\" cannot be divided: tensor parallelism must divide the {1} KV heads")]
    Ranks(String, u64),
}

impl Model {
    /// Bytes of the KV cache of one token, over all ranks.
    pub fn bytes_per_token(&self) -> u64 {
        let numbers = match self.attention {
            Attention::Grouped { kv_heads, head_size } => kv_heads * head_size * 2,
            Attention::Latent { compressed, rotary } => compressed + rotary,
        };
        self.layers * numbers * BYTES_PER_NUMBER
    }

    /// Bytes that one rank stores for a block of [`TOKENS_PER_BLOCK`] tokens.
    pub fn bytes_per_block(&self) -> u64 {
        let shared_by = match self.attention {
            Attention::Grouped { .. } => self.ranks,
            Attention::Latent { .. } => 1,
        };
        self.bytes_per_token() * TOKENS_PER_BLOCK / shared_by
    }

    /// The arithmetic, for people.
    pub fn arithmetic(&self) -> String {
        let per_token = match self.attention {
            Attention::Grouped { kv_heads, head_size } => {
                format!("{} layers × {kv_heads} KV heads × {head_size} × 2 (K, V) × 2 B", self.layers)
            }
            Attention::Latent { compressed, rotary } => {
                format!("{} layers × ({compressed} + {rotary}) × 2 B", self.layers)
            }
        };
        let ranks = if self.ranks > 1 { format!(" / {} ranks", self.ranks) } else { String::new() };
        format!(
            "{}: {per_token} × {TOKENS_PER_BLOCK} tokens{ranks} = {}",
            self.name,
            ByteSize(self.bytes_per_block())
        )
    }
}

impl FromStr for Model {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wanted = text.trim().to_ascii_lowercase();
        let (base, ranks) = match wanted.rsplit_once("-tp") {
            Some((base, ranks)) => (base.to_owned(), ranks.parse().unwrap_or(0)),
            None => (wanted.clone(), 1),
        };
        let Some(&(name, layers, attention)) = MODELS.iter().find(|(name, ..)| *name == base) else {
            let known: Vec<&str> = MODELS.iter().map(|(name, ..)| *name).collect();
            return Err(ModelError::Unknown(wanted, known.join(", ")));
        };
        let kv_heads = match attention {
            Attention::Grouped { kv_heads, .. } => kv_heads,
            // Every rank holds the whole latent vector: any number of ranks is fine.
            Attention::Latent { .. } => ranks,
        };
        if ranks == 0 || !kv_heads.is_multiple_of(ranks) {
            return Err(ModelError::Ranks(wanted, kv_heads));
        }
        Ok(Model { name, layers, attention, ranks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use snowskin_protocol::{KIB, MIB};

    fn model(text: &str) -> Model {
        text.parse().expect(text)
    }

    #[test]
    fn blocks_as_the_traces_page_computes_them() {
        assert_eq!(model("llama-3.1-8b").bytes_per_token(), 128 * KIB);
        assert_eq!(model("llama-3.1-8b").bytes_per_block(), 64 * MIB);
        assert_eq!(model("llama-3.1-70b").bytes_per_block(), 160 * MIB);
        assert_eq!(model("llama-3.1-70b-tp8").bytes_per_block(), 20 * MIB);
        assert_eq!(model("deepseek-v3").bytes_per_token(), 70_272);
        assert_eq!(model("DeepSeek-V3-tp16").bytes_per_block(), 70_272 * 512);
        assert!(model("llama-3.1-70b-tp8").arithmetic().ends_with("/ 8 ranks = 20 MiB"));
    }

    #[test]
    fn what_is_no_model_is_refused_with_the_known_ones() {
        let error = "gpt-7".parse::<Model>().expect_err("unknown").to_string();
        assert!(error.contains("llama-3.1-70b") && error.contains("--block-size"), "{error}");
        for text in ["llama-3.1-8b-tp3", "llama-3.1-8b-tp0", "llama-3.1-8b-tpx"] {
            assert!(matches!(text.parse::<Model>(), Err(ModelError::Ranks(..))), "{text}");
        }
        assert!("deepseek-v3-tp0".parse::<Model>().is_err());
    }
}
