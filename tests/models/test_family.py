import pytest

from itera_nb.models.family import family


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("anthropic/claude-opus-5-5", "bedrock/anthropic.claude-haiku-4-5"),
        ("openai/gpt-5.5", "azure/o3-mini"),
        ("openai/chatgpt-4o-latest", "openrouter/openai/gpt-oss-120b"),
        ("google/gemini-3-pro", "local/gemma3:4b"),
        ("groq/llama-3.3-70b", "together/meta-llama/Llama-4-Scout"),
        ("mistral/mistral-large", "mistral/codestral"),
        ("house/our-judge-v1", "house/our-judge-v2"),
    ],
)
def test_one_family(one, two):
    assert family(one) == family(two)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("anthropic/claude-opus-5-5", "openai/gpt-5.5"),
        ("openrouter/anthropic/claude-opus-5-5", "openrouter/openai/gpt-5.5"),
        ("local/qwen2.5-7b", "local/llama-3.1-8b"),
        ("house/our-judge", "lab/our-judge"),
        ("openai/gpt-5.5", "house/o1000"),
    ],
)
def test_two_families(one, two):
    assert family(one) != family(two)
