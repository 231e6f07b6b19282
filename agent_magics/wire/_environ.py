"""Which environment variables of a notebook's process may reach the engine."""

from __future__ import annotations

__all__ = ["MODEL_ENVIRON"]

MODEL_ENVIRON: frozenset[str] = frozenset(
    {
        "AGENT_MAGICS_MODEL",
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_BASE_URL",
        "DEEPSEEK_API_KEY",
        "DEEPSEEK_BASE_URL",
        "FIREWORKS_API_KEY",
        "FIREWORKS_BASE_URL",
        "GEMINI_API_KEY",
        "GEMINI_BASE_URL",
        "GOOGLE_API_KEY",
        "GROQ_API_KEY",
        "GROQ_BASE_URL",
        "MISTRAL_API_KEY",
        "MISTRAL_BASE_URL",
        "OLLAMA_API_KEY",
        "OLLAMA_BASE_URL",
        "OLLAMA_HOST",
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "OPENROUTER_API_KEY",
        "OPENROUTER_BASE_URL",
        "TOGETHER_API_KEY",
        "TOGETHER_BASE_URL",
        "XAI_API_KEY",
        "XAI_BASE_URL",
    }
)
"""
Names that choose a model or open the way to it.

The client sends the values it finds under these names with a prompt; the engine uses them for
that turn and takes no other names.
"""
