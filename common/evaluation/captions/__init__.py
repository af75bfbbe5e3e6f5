"""What to measure on captions: how near they are to what people wrote, and how they are made.

Everywhere below, N is the number of images. `captions` are N lists of words, one per image;
`references` are, for each image, the lists of words that people wrote. Both come from
`common.data.vocabulary.normalise` (`CaptionData.references` is made by it). Texts that are not
split into words are refused: nltk would take their letters for words and give likely numbers.
No Keras here: words in, numbers and tables out.
"""

from common.evaluation.captions.bleu_score import BLEUS, SMOOTHINGS, SentenceBleu, bleu
from common.evaluation.captions.checks import References
from common.evaluation.captions.cider import CiderD, cider_d
from common.evaluation.captions.report import (
    caption_intervals,
    caption_scores,
    compare_captions,
    human_scores,
    longest_copy,
    with_several,
)
from common.evaluation.captions.rouge_meteor import meteor, rouge_l, what_is_missing
