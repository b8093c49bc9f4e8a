from toolkit.results import CalibrationBin, ConfusedPair, LabelIssues, Review, ReviewedImage


def test_a_review_comes_back_as_it_was_written() -> None:
    image = ReviewedImage(
        split="train",
        name="cat/1.jpg",
        label="cat",
        predicted="dog",
        probability=0.9,
        label_probability=0.05,
        thumbnail="review/0.jpg",
    )
    review = Review(
        mistakes=(image,),
        mistakes_in_all=7,
        pairs=(ConfusedPair(label="cat", predicted="dog", count=7),),
        calibration=(CalibrationBin(low=0.8, high=0.9, images=3, confidence=0.85, accuracy=2 / 3),),
        label_issues=LabelIssues(
            looked_at=100, estimated_wrong=1, folds=5, features="pooled", suspects=(image,), limits=("few images",)
        ),
        class_images={"train": (50, 50), "test": (5, 5)},
    )
    assert Review.from_json(review.to_json()) == review
