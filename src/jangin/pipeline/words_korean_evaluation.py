"""Korean words of the report about an evaluation."""

EVALUATION = {
    "labels": "등급",
    "labels_note": "‘늘 같은 답’은 가장 잦은 등급만 답할 때의 정확도입니다. 이보다 낮으면 배운 "
    "것이 없습니다. 카파는 이차 가중 카파입니다. 등급이 없는 답은 모두 오답으로 세고 마지막 "
    "열에 따로 적습니다.",
    "constant": "늘 같은 답",
    "macro_f1": "매크로 F1",
    "off_by_one": "한 칸 이내",
    "good_or_bad": "좋음/나쁨",
    "kappa": "카파",
    "confusion": "혼동 행렬",
    "confusion_description": "행은 정답, 열은 모델의 답입니다. 짙을수록 그 행에서 차지하는 "
    "비율이 큽니다.",
    "truth": "정답",
    "given": "답",
    "numbers": "수치",
    "numbers_note": "숫자가 없는 답은 빨강으로 세고 마지막 열에 따로 적으며, 평균에는 넣지 "
    "않습니다.",
    "same_figures": "{variants}에서와 수치가 똑같아 다시 적지 않은 것:",
    "median_error": "오차 중앙값",
    "orange_red": "주황, 빨강",
    "answers_read": "답 {count}개",
    "scatter": "정답과 답",
    "scatter_description": "답 {n}개. 선 위에 있으면 정확합니다.",
    "scatter_note": "선 위에 있으면 정확합니다. 큰 점은 초록, 중간 점은 주황, 작은 점은 빨강 "
    "구간입니다.",
    "running": "여기까지의 평균 오차",
    "running_description": "질문을 하나씩 더할 때의 평균 오차와 95 % 구간(점선)입니다. 아직 "
    "움직이면 질문이 모자랍니다.",
    "questions": "질문",
    "end_low": "아래",
    "end_high": "위",
    "rivals": "{system} 대 나머지 전부",
    "rivals_only": "이 줄만 / {system}만",
    "rivals_note": "같은 질문을 쌍으로 견주어 한쪽만 맞힌 수를 셌습니다. p값은 정확 McNemar "
    "검정이며, 보정한 값은 이 표의 모든 줄에 대해 Holm 방법을 쓴 것입니다. 변화의 p는 "
    "순열 검정의 값이며 보정하지 않았습니다.",
    "rivals_error": "평균 오차의 변화가 음수이면 나아진 것입니다.",
    "pairwise": "나란히 심사",
    "judge": "심사자",
    "wins_losses_ties": "A 승 / 패 / 무",
    "win_rate": "A의 승률",
    "inconsistent": "순서가 가름",
    "first_shown": "먼저 보인 쪽이 이김",
    "longer_won": "긴 쪽이 이김",
    "pairwise_note": "심사자는 모든 쌍을 두 순서로 보았습니다. 순서가 가른 쌍은 무승부입니다. "
    "마지막 두 열이 50 %에서 멀면 심사자가 순서나 길이를 보고 있다는 뜻입니다.",
    "kin_itself": "심사자 {judge}은(는) 겨루는 쪽의 하나입니다: {system}, 곧 자신을 심사합니다.",
    "kin_base": "심사자 {judge}은(는) {system}의 기반 모델이므로 그쪽을 편들 수 있습니다.",
    "kin_teacher": "심사자 {judge}이(가) {system}을(를) 학습시킨 답을 썼으므로 그쪽을 편들 수 "
    "있습니다.",
    "kin_both": "{a}와(과) {b}",
    "kin_figures": "이 심사자 앞에서 {system}의 승률은 {own}, 어느 쪽도 아닌 심사자들 앞에서는 "
    "{others}입니다. 차이는 모두가 심사한 질문 {n}개에서 {gain}점, 95 % 구간은 "
    "{low}~{high}점입니다.",
    "kin_alone": "그것이 얼마나 도왔는지는 알 수 없습니다. 같은 둘을 견준 다른 심사자가 없습니다.",
    "forgetting": "잊은 것",
    "texts": "글",
    "perplexity": "혼란도",
    "bits_per_character": "글자당 비트",
    "log_loss_change": "토큰당 변화",
    "general_questions": "일반 질문",
    "general_right": "맞힘",
    "forgetting_note": "가르친 내용과 무관한 일반 자료입니다. 변화가 양수이면 나빠진 것입니다.",
    "slices": "부분별 결과",
    "slices_intro": "{system}의 부분별 결과를 같은 질문에서 {against}와(과) 견주었습니다. 마지막 "
    "열은 같은 종류의 부분 전체에 대해 Holm 방법으로 보정했습니다.",
    "slice": "부분",
    "slice_document": "문서별",
    "slice_label": "등급별",
    "slice_length": "질문 길이별",
    "changed": "얻은 것과 잃은 것",
    "changed_intro": "{second}만 맞힌 질문은 {won}개, {first}만 맞힌 질문은 {lost}개입니다.",
    "candidates": "비교한 기본 모델",
    "candidates_intro": "질문 {n}개에 대한 정답의 가능도입니다. 낮을수록 좋고 토크나이저에 따라 "
    "달라지지 않습니다.",
    "base_model": "기본 모델",
    "nats": "글자당 nat",
    "tokens_per_character": "글자당 토큰",
    "parameters": "매개변수",
    "context": "문맥 길이",
    "lora_memory": "LoRA 메모리",
    "memory": "학습 메모리",
    "memory_stage": "단계",
    "memory_method": "방법, 장치",
    "memory_predicted": "예측",
    "memory_measured": "측정",
    "memory_ratio": "예측 ÷ 측정",
    "memory_note": "프로세스 하나의 최댓값입니다. 예측은 아무것도 불러오기 전에 모델 크기와 행 "
    "길이만으로 합니다.",
    "licence": "라이선스",
    "chosen": "선택",
    "tied": "무승부",
    "results_intro_closeness": "정확도는 맞는 등급을 답한 비율이고, 가까움은 등급 차이가 "
    "클수록 1에서 0으로 줄어듭니다. 대괄호는 95% 신뢰구간입니다.",
    "results_intro_absolute_error": "초록 구간은 충분히 가까운 답의 비율이고, 평균 오차의 "
    "단위는 정답과 같습니다. 대괄호는 95% 신뢰구간입니다.",
}
