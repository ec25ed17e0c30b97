"""Vision-language models of the Hugging Face Hub as the policy's eyes, frozen or with low-rank adapters."""
