"""Made-up lines of a history, as a training writes them."""


def make_record(epoch, objective="weighted", dimension=3072, **changes):
    """Epoch `epoch`, from 1, of a run that learns: all terms differ, also between epochs."""
    sse, kl = 300.0 / (epoch + 1), 10.0 * epoch / (epoch + 2)
    variance = changes.get("decoder_variance")
    weight = 2 * variance if variance else 2.0
    record = {
        "epoch": epoch,
        "step": 25 * epoch,
        "train_loss": sse + 2 * kl,
        "train_sse_per_image": sse,
        "train_kl_nats_per_image": kl,
        "train_saturation_penalty": 0.01 / epoch,
        "valid_n_images": 100,
        "valid_sse_per_image": 1.1 * sse,
        "valid_sse_per_image_posterior_mean": sse,
        "valid_mse_per_pixel": 1.1 * sse / dimension,
        "valid_kl_nats_per_image": 0.9 * kl,
        "valid_kl_nats_per_map": [0.4 * kl, 0.3 * kl, 0.2 * kl, 0.0],
        "valid_sse_median": 1.05 * sse,
        "valid_kl_nats_median": 0.85 * kl,
        "valid_kl_nats_largest": 3 * kl,
        "valid_kl_largest_image": 10 + epoch,
        "valid_kl_largest_map": 1,
        "valid_saturated_share": 0.0,
        "valid_active_entries": 3 * epoch,
        "valid_active_maps": min(epoch, 3),
        "valid_latent_entries": 36,
        "valid_latent_maps": 4,
        "kl_weight": weight,
        "equivalent_variance_at_unit_beta": weight / 2,
        "equivalent_beta_at_unit_variance": weight / 2,
        "decoder_variance": None,
        "kl_warmup_factor": min(1.0, epoch / 2),
        "learning_rate": 0.001 / epoch,
        "seconds": 2.0,
        "images_per_second": 100.0 + epoch,
    }
    if objective == "weighted":
        record["valid_objective_sse_plus_w_kl"] = 1.1 * sse + weight * 0.9 * kl
    else:
        record["valid_elbo_nats_per_image"] = -1000.0 / epoch
    return record | changes
